//go:build byol_intree && !byol_static

package byol

// #cgo CFLAGS: -I${SRCDIR}/../../include
// #cgo LDFLAGS: -L${SRCDIR}/../../target/release -lbyol -Wl,-rpath,${SRCDIR}/../../target/release
import "C"
