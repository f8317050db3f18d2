module examples

go 1.24

require byol v0.0.0

// In a checkout; elsewhere, where the module byol was put.
replace byol => ../../bindings/go
