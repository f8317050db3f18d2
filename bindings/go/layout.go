package byol

/*
#include <byol.h>
*/
import "C"

import "reflect"

// What tests compare; cgo is not to be had in test files.

// structs are the header's structs as Go sees them.
var structs = map[string]reflect.Type{
	"byol_error":           reflect.TypeFor[C.byol_error](),
	"byol_cancel":          reflect.TypeFor[C.byol_cancel](),
	"byol_runtime_options": reflect.TypeFor[C.byol_runtime_options](),
	"byol_runtime":         reflect.TypeFor[C.byol_runtime](),
	"byol_source":          reflect.TypeFor[C.byol_source](),
	"byol_model_info":      reflect.TypeFor[C.byol_model_info](),
	"byol_contract":        reflect.TypeFor[C.byol_contract](),
	"byol_encoder_options": reflect.TypeFor[C.byol_encoder_options](),
	"byol_encoder_info":    reflect.TypeFor[C.byol_encoder_info](),
	"byol_encoder":         reflect.TypeFor[C.byol_encoder](),
	"byol_image":           reflect.TypeFor[C.byol_image](),
	"byol_extract_options": reflect.TypeFor[C.byol_extract_options](),
	"byol_head_info":       reflect.TypeFor[C.byol_head_info](),
	"byol_head":            reflect.TypeFor[C.byol_head](),
	"byol_fit_options":     reflect.TypeFor[C.byol_fit_options](),
	"byol_fit_report":      reflect.TypeFor[C.byol_fit_report](),
	"byol_metrics":         reflect.TypeFor[C.byol_metrics](),
	"byol_runtime_stats":   reflect.TypeFor[C.byol_runtime_stats](),
	"byol_image_info":      reflect.TypeFor[C.byol_image_info](),
	"byol_features":        reflect.TypeFor[C.byol_features](),
	"byol_features_info":   reflect.TypeFor[C.byol_features_info](),
	"byol_trainer":         reflect.TypeFor[C.byol_trainer](),
	"byol_trainer_info":    reflect.TypeFor[C.byol_trainer_info](),
	"byol_search_options":  reflect.TypeFor[C.byol_search_options](),
}

// initialised gives the struct_size that libbyol writes for the size that Go has, or 0 where it refuses that size.
var initialised = map[string]func() uint32{
	"byol_error": func() uint32 {
		var s C.byol_error
		C.byol_error_init(&s, C.sizeof_byol_error)
		return uint32(s.struct_size)
	},
	"byol_runtime_options": func() uint32 {
		var s C.byol_runtime_options
		C.byol_runtime_options_init(&s, C.sizeof_byol_runtime_options)
		return uint32(s.struct_size)
	},
	"byol_source": func() uint32 {
		var s C.byol_source
		C.byol_source_init(&s, C.sizeof_byol_source)
		return uint32(s.struct_size)
	},
	"byol_model_info": func() uint32 {
		var s C.byol_model_info
		C.byol_model_info_init(&s, C.sizeof_byol_model_info)
		return uint32(s.struct_size)
	},
	"byol_contract": func() uint32 {
		var s C.byol_contract
		C.byol_contract_init(&s, C.sizeof_byol_contract)
		return uint32(s.struct_size)
	},
	"byol_encoder_options": func() uint32 {
		var s C.byol_encoder_options
		C.byol_encoder_options_init(&s, C.sizeof_byol_encoder_options)
		return uint32(s.struct_size)
	},
	"byol_encoder_info": func() uint32 {
		var s C.byol_encoder_info
		C.byol_encoder_info_init(&s, C.sizeof_byol_encoder_info)
		return uint32(s.struct_size)
	},
	"byol_image": func() uint32 {
		var s C.byol_image
		C.byol_image_init(&s, C.sizeof_byol_image)
		return uint32(s.struct_size)
	},
	"byol_extract_options": func() uint32 {
		var s C.byol_extract_options
		C.byol_extract_options_init(&s, C.sizeof_byol_extract_options)
		return uint32(s.struct_size)
	},
	"byol_head_info": func() uint32 {
		var s C.byol_head_info
		C.byol_head_info_init(&s, C.sizeof_byol_head_info)
		return uint32(s.struct_size)
	},
	"byol_fit_options": func() uint32 {
		var s C.byol_fit_options
		C.byol_fit_options_init(&s, C.sizeof_byol_fit_options)
		return uint32(s.struct_size)
	},
	"byol_fit_report": func() uint32 {
		var s C.byol_fit_report
		C.byol_fit_report_init(&s, C.sizeof_byol_fit_report)
		return uint32(s.struct_size)
	},
	"byol_metrics": func() uint32 {
		var s C.byol_metrics
		C.byol_metrics_init(&s, C.sizeof_byol_metrics)
		return uint32(s.struct_size)
	},
	"byol_runtime_stats": func() uint32 {
		var s C.byol_runtime_stats
		C.byol_runtime_stats_init(&s, C.sizeof_byol_runtime_stats)
		return uint32(s.struct_size)
	},
	"byol_image_info": func() uint32 {
		var s C.byol_image_info
		C.byol_image_info_init(&s, C.sizeof_byol_image_info)
		return uint32(s.struct_size)
	},
	"byol_features_info": func() uint32 {
		var s C.byol_features_info
		C.byol_features_info_init(&s, C.sizeof_byol_features_info)
		return uint32(s.struct_size)
	},
	"byol_trainer_info": func() uint32 {
		var s C.byol_trainer_info
		C.byol_trainer_info_init(&s, C.sizeof_byol_trainer_info)
		return uint32(s.struct_size)
	},
	"byol_search_options": func() uint32 {
		var s C.byol_search_options
		C.byol_search_options_init(&s, C.sizeof_byol_search_options)
		return uint32(s.struct_size)
	},
}
