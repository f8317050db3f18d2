//go:build !byol_intree

package byol

// #cgo pkg-config: byol
import "C"
