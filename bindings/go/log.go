package byol

/*
#include "callback.h"
*/
import "C"

import (
	"fmt"
	"runtime/cgo"
	"runtime/debug"
)

// A LogLevel says how much libbyol tells, or of what kind a message is.
type LogLevel uint32

// How much libbyol tells.
const (
	LogOff   LogLevel = C.BYOL_LOG_OFF   // nothing
	LogError LogLevel = C.BYOL_LOG_ERROR // failures, each with its full message
	LogInfo  LogLevel = C.BYOL_LOG_INFO  // also what was loaded from where
)

// A logSink is what one SetLog left with libbyol.
type logSink struct {
	receive func(LogLevel, string)
}

// SetLog sends what libbyol has to say, up to a level, to a function; nil for silence, which is how it starts. When it
// returns, the function that was there before is not running and will not be called again.
//
// The function is called on whatever thread has something to say, at times on several at once. It must not call SetLog
// or Shutdown, which fail with [ErrReentrant] there, and not wait for a goroutine that does.
func SetLog(level LogLevel, receive func(level LogLevel, message string)) error {
	var user cgo.Handle
	if receive != nil {
		user = cgo.NewHandle(&logSink{receive})
	}
	c := begin()
	err := c.end(C.byol_go_set_log_sink(C.uintptr_t(user), C.uint32_t(level), &c.err))
	if err != nil && receive != nil {
		// libbyol drops only what it took.
		user.Delete()
	}
	return err
}

//export byolGoLog
func byolGoLog(user C.uintptr_t, level C.uint32_t, message *C.char) {
	// A panic must not unwind through C. It ends the program, as one in a goroutine does.
	defer func() {
		if value := recover(); value != nil {
			report := fmt.Sprintf("byol: the log function panicked: %v\n%s", value, debug.Stack())
			go panic(report)
		}
	}()
	cgo.Handle(user).Value().(*logSink).receive(LogLevel(level), C.GoString(message))
}

//export byolGoDrop
func byolGoDrop(user C.uintptr_t) {
	cgo.Handle(user).Delete()
}
