//go:build byol_intree && byol_static

package byol

// #cgo CFLAGS: -I${SRCDIR}/../../include -DBYOL_STATIC
// #cgo LDFLAGS: ${SRCDIR}/../../target/release/libbyol.a
// #cgo linux LDFLAGS: -lm -ldl -lpthread -lgcc_s
import "C"
