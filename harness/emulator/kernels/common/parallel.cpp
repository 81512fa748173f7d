#include "parallel.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

// The items that are left.
struct Work {
    const std::function<void(long)>& body;
    const long items;
    std::atomic<long> next{0};

    static void take(void* work) {
        auto& w = *static_cast<Work*>(work);
        for (long i; (i = w.next.fetch_add(1)) < w.items;) w.body(i);
    }
};

// Starts a function on several of OpenMP's threads. They are torch's: while they wait for work they turn on the spot for a
// while, and threads of our own would have to share their cores with them. A forked child has none of its parent's.
using OpenMP = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

OpenMP openmp() {
    static const auto found = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    static const pid_t owner = getpid();
    return getpid() == owner ? found : nullptr;
}

}  // namespace

void parallel_for(int threads, long items, const std::function<void(long)>& body) {
    Work work{body, items};
    threads = static_cast<int>(threads < items ? threads : items);
    if (threads <= 1) return Work::take(&work);
    if (openmp()) return openmp()(Work::take, &work, threads, 0);
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(Work::take, &work);
    Work::take(&work);
    for (std::thread& other : others) other.join();
}
