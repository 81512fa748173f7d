// Elementwise operations of the matrix unit over whole tensors. And the SFPU's product with a bfloat16 Dest, exact in half the
// steps of its multiply-add.

#include <algorithm>

#include "eltwise.h"
#include "parallel.h"

namespace {

using namespace eltwise;

constexpr long kChunk = 1 << 15;  // elements one thread takes at a time

// The product of two bfloat16 (16 bits, exact in float32) rounded half to even; 0 times anything is 0.
struct SfpuMultiply {
    W operator()(W a, W b, W) const {
        const I ea = exponent(a), eb = exponent(b), zero = (ea == 0) | (eb == 0);
        const W sign = (a ^ b) & kSign;
        const W product = (W)((F)((a & kMantissa) | 0x3F800000u) * (F)((b & kMantissa) | 0x3F800000u));
        const I biased = exponent(product) + ea + eb - (127 + 127);
        const I special = (ea == 255) | (eb == 255);
        const I nan = ((ea == 255) & ((a & kMantissa) != 0)) | ((eb == 255) & ((b & kMantissa) != 0));
        W w = sign | (W)biased << 23 | (product & kMantissa);
        const W junk = pick(biased >= 255, W{}, product & kMantissa);
        w = pick((biased >= 255) | special, sign | kInf | (junk & (W)nan) | (W)(nan & 1), w);
        w = (w + 0x7FFFu + (w >> 16 & 1)) & 0xFFFF0000u;
        return pick(zero | ((biased <= 0) & ~special), W{}, w);
    }
};

// One operand: element (r, c) is data[r * row + c * column], column 0 or 1.
template <class T>
struct Operand {
    const T* data;
    long row, column;

    W at(long r, long c) const { return column ? load(data + r * row + c) : load_one(data + r * row); }
    W some(long r, long c, long count) const {
        if (!column) return load_one(data + r * row);
        return lanes::some(data + r * row + c, count);
    }

    static W load_one(const T* p) {
        T part[kLanes] = {*p};
        return W{} + load(part)[0];
    }
};

struct Call {
    const void *a, *b, *dest;
    void* out;
    long a_row, a_column, b_row, b_column, rows, columns, bf16_in, bf16_out, threads;
    void* keep;  // the caller's
};

template <class T, class Function>
void apply(const Function& f, const Call& call) {
    const Operand<T> a{static_cast<const T*>(call.a), call.a_row, call.a_column};
    const Operand<T> b{static_cast<const T*>(call.b), call.b_row, call.b_column};
    const Operand<float> dest{static_cast<const float*>(call.dest), call.columns, 1};
    const bool has_dest = call.dest != nullptr, narrow = call.bf16_out;
    const long group = std::max(1l, kChunk / std::max(1l, call.columns));
    parallel_for(int(call.threads), (call.rows + group - 1) / group, [&](long item) {
        for (long r = item * group; r < std::min(call.rows, (item + 1) * group); ++r) {
            uint16_t* out16 = static_cast<uint16_t*>(call.out) + r * call.columns;
            float* out32 = static_cast<float*>(call.out) + r * call.columns;
            long c = 0;
            for (; c + kLanes <= call.columns; c += kLanes) {
                const W w = f(a.at(r, c), b.at(r, c), has_dest ? dest.at(r, c) : W{});
                if (narrow)
                    store(out16 + c, packed(w));
                else
                    store(out32 + c, w);
            }
            if (const long left = call.columns - c) {
                const W w = f(a.some(r, c, left), b.some(r, c, left), has_dest ? dest.some(r, c, left) : W{});
                if (narrow)
                    put(out16 + c, packed(w), left);
                else
                    put(out32 + c, w, left);
            }
        }
    });
}

template <class Function>
void run(const Function& f, const Call& call) {
    if (call.bf16_in)
        apply<uint16_t>(f, call);
    else
        apply<float>(f, call);
}

template <bool fp32_dest>
void run_multiply(int phases, const Call& call) {
    const bool from_zero = call.dest == nullptr;
    switch (phases) {
        case 1: return run(Multiply<fp32_dest, 1>{from_zero}, call);
        case 2: return run(Multiply<fp32_dest, 2>{from_zero}, call);
        case 3: return run(Multiply<fp32_dest, 3>{from_zero}, call);
        default: return run(Multiply<fp32_dest, 4>{from_zero}, call);
    }
}

}  // namespace

extern "C" {

void eltwise_add(const Call* call, int subtract, int fp32_dest) {
    const Word turn = subtract ? kSign : 0;
    fp32_dest ? run(Add<true>{turn}, *call) : run(Add<false>{turn}, *call);
}

void eltwise_multiply(const Call* call, int phases, int fp32_dest) {
    fp32_dest ? run_multiply<true>(phases, *call) : run_multiply<false>(phases, *call);
}

void eltwise_sfpu_multiply(const Call* call) { run(SfpuMultiply{}, *call); }
}
