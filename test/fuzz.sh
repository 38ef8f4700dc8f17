#!/bin/sh
# Every fuzz target for a time each, as many at once as there are cores: building
# one takes another's idle time.
#
#	test/fuzz.sh 20s          all targets, 20 seconds each
#	test/fuzz.sh 20s DIR NAME one target
set -eu
cd "$(dirname "$0")/.."
time=$1
go=${GO:-go}

if [ $# = 1 ]; then
	grep -rnoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' . |
		sed 's|/[^/]*:[0-9]*:func | |' | sort |
		xargs -P "$(nproc)" -n 2 "$0" "$time"
	exit
fi

dir=$2 name=$3
log=$(mktemp)
trap 'rm "$log"' EXIT

# Go before 1.27 sometimes reports the end of -fuzztime as an error of the target
# (go.dev/issue/75804). What a target finds has a failing input, or a line of a
# test file; that error is a line of its own and has neither.
ended() {
	grep -qx '    context deadline exceeded' "$log" &&
		! grep -qE 'Failing input|_test\.go:[0-9]+:|panic:|hung or terminated' "$log"
}

if $go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel 1 "$dir" >"$log" 2>&1 </dev/null || ended; then
	echo "$dir $name: $(grep elapsed "$log" | tail -n 1)"
else
	echo "$dir $name failed:"
	cat "$log"
	exit 1
fi
