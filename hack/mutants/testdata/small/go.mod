module small

go 1.25
