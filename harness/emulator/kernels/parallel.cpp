#include "parallel.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace {

class Pool {
   public:
    void run(int threads, long items, const std::function<void(long)>& body) {
        std::unique_lock lock(mutex_);
        for (; started_ < threads - 1; ++started_) std::thread(&Pool::serve, this, started_).detach();
        body_ = &body;
        items_ = items;
        next_ = 0;
        helpers_ = busy_ = threads - 1;
        ++round_;
        lock.unlock();
        wake_.notify_all();
        take();
        lock.lock();
        done_.wait(lock, [&] { return busy_ == 0; });
    }

   private:
    void serve(int index) {
        std::unique_lock lock(mutex_);
        for (long seen = round_ - 1;;) {
            wake_.wait(lock, [&] { return round_ != seen; });
            seen = round_;
            if (index >= helpers_) continue;
            lock.unlock();
            take();
            lock.lock();
            if (--busy_ == 0) done_.notify_one();
        }
    }

    void take() {
        for (long i; (i = next_.fetch_add(1)) < items_;) (*body_)(i);
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const std::function<void(long)>* body_ = nullptr;
    std::atomic<long> next_{0};
    long items_ = 0, round_ = 0;
    int started_ = 0, helpers_ = 0, busy_ = 0;
};

// Never destroyed: its threads live as long as the process.
Pool& pool() {
    static Pool* mine = nullptr;
    static pid_t owner = 0;
    if (owner != getpid()) {  // first call, or a forked child, which has none of its parent's threads
        mine = new Pool;
        owner = getpid();
    }
    return *mine;
}

}  // namespace

void parallel_for(int threads, long items, const std::function<void(long)>& body) {
    static std::mutex one_caller;
    std::lock_guard guard(one_caller);
    threads = static_cast<int>(threads < items ? threads : items);
    if (threads <= 1) {
        for (long i = 0; i < items; ++i) body(i);
        return;
    }
    pool().run(threads, items, body);
}
