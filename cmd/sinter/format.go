package main

import "github.com/docker/go-units"

// humanSize is a number of bytes as docker shows it.
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
