module byol

go 1.24
