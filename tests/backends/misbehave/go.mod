module vigie.dev/backends/misbehave

go 1.26.0
