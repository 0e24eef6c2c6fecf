package presence

import "slices"

// firsts keeps the first items, by an order, of a stream that is longer: it never holds
// more than twice the limit.
type firsts[T any] struct {
	limit   int
	compare func(a, b T) int
	list    []T
	bound   *T // what does not come before it is none of the first
}

func (f *firsts[T]) add(item T) {
	if f.limit <= 0 || f.bound != nil && f.compare(item, *f.bound) >= 0 {
		return
	}
	f.list = append(f.list, item)
	if len(f.list) >= 2*f.limit {
		f.cut()
	}
}

func (f *firsts[T]) cut() {
	slices.SortFunc(f.list, f.compare)
	if len(f.list) >= f.limit && f.limit > 0 {
		clear(f.list[f.limit:])
		f.list = f.list[:f.limit]
		bound := f.list[f.limit-1]
		f.bound = &bound
	}
}

// sorted returns the first items in order.
func (f *firsts[T]) sorted() []T {
	f.cut()
	return f.list
}
