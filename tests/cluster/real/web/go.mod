// Answers HTTP in the selftest's pods, with the standard library only.
module vigie.dev/cluster/web

go 1.26.0
