// Functions of the SFPU for a float32 Dest over whole tensors. With a bfloat16 Dest the results come from a table, made by
// sfpu.py.

#include <algorithm>

#include "lanes.h"
#include "parallel.h"
#include "sfpu.h"

namespace {

using namespace sfpu;

constexpr long kChunk = 1 << 13;  // elements one thread takes at a time

// Calls body(i, count) for all groups of up to 16 elements.
template <class Body>
void for_groups(long n, int threads, const Body& body) {
    parallel_for(threads, (n + kChunk - 1) / kChunk, [&](long item) {
        const long end = std::min(n, (item + 1) * kChunk);
        for (long i = item * kChunk; i < end; i += kLanes) body(i, std::min(end - i, long(kLanes)));
    });
}

template <class Function>
void map(const float* x, float* y, long n, int threads, const Function& f) {
    for_groups(n, threads, [&](long i, long count) {
        const W w = stored(f(some(x + i, count)));
        std::memcpy(y + i, &w, sizeof(float) * count);
    });
}

}  // namespace

extern "C" {

// Operands with step 0 are one number.
void sfpu_mad(const float* x, const float* y, const float* z, float* out, int x_step, int y_step, int z_step, long n,
              int threads) {
    const auto operand = [](const float* p, int step, long i, long count) {
        return step ? some(p + i, count) : constant(*p);
    };
    for_groups(n, threads, [&](long i, long count) {
        const W w = mad(operand(x, x_step, i, count), operand(y, y_step, i, count), operand(z, z_step, i, count));
        std::memcpy(out + i, &w, sizeof(float) * count);
    });
}

void sfpu_exp(const float* x, float* y, long n, int threads, float scale, int scaled) {
    if (scaled)
        map(x, y, n, threads, [=](W w) { return exp(scaled_by(w, scale)); });
    else
        map(x, y, n, threads, [](W w) { return exp(w); });
}

void sfpu_exp_approximate(const float* x, float* y, long n, int threads, float factor) {
    map(x, y, n, threads, [=](W w) { return exp_approximate(w, factor); });
}

void sfpu_correction(const float* x, float* y, long n, int threads, float scale) {
    map(x, y, n, threads, [=](W w) { return correction(w, scale); });
}

void sfpu_reciprocal(const float* x, float* y, long n, int threads) {
    map(x, y, n, threads, [](W w) { return reciprocal(w); });
}

void sfpu_rsqrt(const float* x, float* y, long n, int threads) {
    map(x, y, n, threads, [](W w) { return rsqrt(w); });
}

void sfpu_sigmoid(const float* x, float* y, long n, int threads) {
    map(x, y, n, threads, [](W w) { return sigmoid(w); });
}

void sfpu_silu(const float* x, float* y, long n, int threads) {
    map(x, y, n, threads, [](W w) { return mul(w, sigmoid(w)); });
}
}
