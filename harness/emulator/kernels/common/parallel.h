// A loop over independent items on several threads: torch's own, where it has OpenMP.
#pragma once

#include <functional>

// Calls body(i) for i in [0, items) on at most `threads` threads, the caller's included; returns when all are done.
// Items are taken in order as threads become free. Not reentrant: body must not call parallel_for.
void parallel_for(int threads, long items, const std::function<void(long)>& body);
