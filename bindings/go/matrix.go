package byol

import "math/bits"

// A Matrix is rows of float32 values, one after the other: features, or probabilities. It is a view of Data, which may
// be the caller's own.
type Matrix struct {
	// Data holds row i from i*Stride on.
	Data []float32
	// Rows and Columns are the size.
	Rows, Columns int
	// Stride is the distance from one row to the next; 0 is Columns.
	Stride int
}

// Row is row i, without a copy. Like indexing, it panics where there is no such row.
func (m Matrix) Row(i int) []float32 {
	if i < 0 || i >= m.Rows {
		panic("byol: no such row")
	}
	start := i * m.stride()
	return m.Data[start : start+m.Columns : start+m.Columns]
}

// Slice is rows from up to but without to, without a copy. Like slicing, it panics where there are no such rows.
func (m Matrix) Slice(from, to int) Matrix {
	if from < 0 || to < from || to > m.Rows {
		panic("byol: no such rows")
	}
	part := Matrix{Rows: to - from, Columns: m.Columns, Stride: m.Stride}
	if part.Rows > 0 {
		part.Data = m.Data[from*m.stride() : (to-1)*m.stride()+m.Columns]
	}
	return part
}

func (m Matrix) stride() int {
	if m.Stride == 0 {
		return m.Columns
	}
	return m.Stride
}

// check makes sure that C finds behind Data what the sizes promise.
func (m Matrix) check(what string) error {
	if m.Rows < 0 || m.Columns < 0 || m.Stride < 0 || m.stride() < m.Columns {
		return fail(ErrShape, "%s: %d rows of %d columns, %d apart", what, m.Rows, m.Columns, m.stride())
	}
	if m.Rows == 0 {
		return nil
	}
	high, length := bits.Mul64(uint64(m.Rows-1), uint64(m.stride()))
	length, carry := bits.Add64(length, uint64(m.Columns), 0)
	if high != 0 || carry != 0 || length > uint64(len(m.Data)) {
		return fail(ErrShape, "%s: %d values are too few for %d rows of %d columns, %d apart", what, len(m.Data), m.Rows,
			m.Columns, m.stride())
	}
	return nil
}

// product multiplies sizes of slices to make, or says that no slice is that long.
func product(a, b int) (int, error) {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high != 0 || low > 1<<40 {
		return 0, fail(ErrNoMemory, "no room for %d times %d values", a, b)
	}
	return int(low), nil
}
