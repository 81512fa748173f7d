#!/bin/sh
# Stands in for Tenstorrent's kernel compiler on a mock device, which never runs a kernel. Whatever it is asked to
# compile becomes an empty object with the dependency file ttnn reads; whatever it is asked to link becomes a copy of the
# one executable beside it. A cold run starts it hundreds of times, so it starts no other program but `cp`.
while [ $# -gt 0 ]; do
  case $1 in
    --version) echo "riscv-tt-elf-g++ (tt-harness stand-in, compiles nothing)"; exit 0 ;;
    -o) out=$2; shift ;;
    -MF) dependencies=$2; shift ;;
    -T*) linking=yes ;;
    *.cc | *.cpp | *.c | *.S) source=$1 ;;
  esac
  shift
done
if [ -z "$out" ]; then
  echo "tt-harness stand-in compiler: no -o, nothing to write" >&2
  exit 1
fi
if [ -n "$linking" ]; then
  exec cp "${0%/*}/kernel.elf" "$out"
fi
: >"$out"
if [ -n "$dependencies" ]; then
  echo "$out: $source" >"$dependencies"
fi
