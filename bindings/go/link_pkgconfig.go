//go:build !byol_intree && !byol_static

package byol

// #cgo pkg-config: byol
import "C"
