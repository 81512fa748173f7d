// Elementwise operations of the matrix unit (numerics.md, "Eltwise / reduce"): the rules of fpu.py, where they are spelled
// out, on sixteen lanes at a time. And the SFPU's product with a bfloat16 Dest, exact in half the steps of its multiply-add.

#include <algorithm>

#include "lanes.h"
#include "parallel.h"

namespace {

using namespace lanes;

constexpr long kChunk = 1 << 15;  // elements one thread takes at a time

// The significand with `unit` fraction bits, 0 for zeros and denormals.
template <int unit>
inline I significand_of(W w) {
    return (I)(significand(w) >> (23 - unit));
}

// magnitude / 2**by, halves up, less where `tie` is 1; magnitudes have at most `width` bits.
template <int width>
inline I shifted(I magnitude, I by, I tie = I{}) {
    by = smaller(by, all_int(width + 2));
    return (magnitude + ((1 << by) >> 1) - (tie & (by > 0))) >> by;
}

// total * 2**(top - 127 - unit) rounded half away to a Dest of 24 or 8 significant bits.
template <bool fp32_dest, int unit>
inline W to_dest(I total, I top) {
    const W sign = (W)total & kSign;
    I magnitude = larger(total, -total);
    if (fp32_dest && unit == 23) {
        magnitude = pick(total == -1, all_int(1 << 27), magnitude);  // the silicon bug of numerics.md, "MVMUL"
        const I drop = -((magnitude >= 1 << 24) + (magnitude >= 1 << 25) + (magnitude >= 1 << 26));
        magnitude = (magnitude + ((1 << drop) >> 1)) >> drop;
        top += drop;
    }
    W w = to_float(magnitude);
    if (!fp32_dest) w = (w + 0x8000u) & 0xFFFF0000u;
    const I biased = exponent(w) + top - (127 + unit);
    const W result = pick(biased >= 255, sign | kInf, sign | (W)biased << 23 | (w & kMantissa));
    return pick((biased <= 0) | (total == 0), W{}, result);
}

template <bool fp32_dest>
inline W source(W w) {
    return w & (fp32_dest ? 0xFFFFE000u : 0xFFFF0000u);
}

template <bool fp32_dest>
struct Add {
    Word turn;  // kSign to subtract

    W operator()(W a, W b, W) const {
        a = source<fp32_dest>(a);
        b = source<fp32_dest>(b) ^ turn;
        const I ea = exponent(a), eb = exponent(b), top = larger(ea, eb);
        const I total = with_sign(a, shifted<11>(significand_of<10>(a), top - ea)) +
                        with_sign(b, shifted<11>(significand_of<10>(b), top - eb));
        return to_dest<fp32_dest, 10>(total, top);
    }
};

// Adds a product (12 bits, unit 2**(e - 127 - 10); nothing where e <= 0) to the Dest. Halves of negative products go
// toward zero.
template <bool fp32_dest>
inline W accumulated(W dest, W sign, I product, I e) {
    constexpr int unit = fp32_dest ? 23 : 10;
    const I present = e > 0, ed = exponent(dest), top = larger(ed, e & present);
    const I term = shifted<unit + 2>((product << (unit - 10)) & present, top - e, (I)(sign >> 31));
    return to_dest<fp32_dest, unit>(
        with_sign(dest, shifted<unit + 1>(significand_of<unit>(dest), top - ed)) + with_sign(sign, term), top);
}

// The product's exponent, far below 0 where an operand is zero.
inline I product_exponent(W a, W b) {
    const I ea = exponent(a), eb = exponent(b);
    return pick((ea == 0) | (eb == 0), all_int(-1000), ea + eb - 127);
}

// Any operands and Dest.
template <bool fp32_dest, int phases>
inline W multiply_accumulate(W a, W b, W dest) {
    const I ma = significand_of<10>(a), mb = significand_of<10>(b), e = product_exponent(a, b);
    const I high_a = ma >> 6, low_a = ma >> 1 & 31, high_b = mb >> 4, low_b = (mb & 15) << 3;
    const W sign = (a ^ b) & kSign;
    dest = accumulated<fp32_dest>(dest, sign, high_a * high_b, e);
    if (phases > 1) dest = accumulated<fp32_dest>(dest, sign, low_a * high_b, e - 5);
    if (phases > 2) dest = accumulated<fp32_dest>(dest, sign, high_a * low_b, e - 7);
    if (phases > 3) dest = accumulated<fp32_dest>(dest, sign, low_a * low_b, e - 12);
    return dest;
}

// From a zero Dest and with every phase's exponent an ordinary one, a float32 Dest ends with the exact product of the bits
// that were multiplied: 21 at most.
template <int phases>
inline W multiply_fp32(W a, W b) {
    const F high_a = (F)(a & 0xFFF80000u), all_a = (F)(a & 0xFFFFC000u), high_b = (F)(b & 0xFFFE0000u), all_b = (F)b;
    const F product = phases == 1   ? high_a * high_b
                      : phases == 2 ? all_a * high_b
                      : phases == 3 ? all_a * high_b + high_a * (all_b - high_b)
                                    : all_a * all_b;
    return pick((exponent(a) == 0) | (exponent(b) == 0), W{}, (W)product);
}

// How far a Dest of 12 bits or a little more is above the first phase's exponent.
inline I level(I m) { return -((m >= 2048) + (m >= 4096)); }

inline I eight_bits(I m) {
    const I unit = 8 << level(m);
    return (m + (unit >> 1)) & -unit;
}

template <int share>
inline I with_phase(I m, I product, I negative) {
    const I up = level(m), by = up + share;
    return eight_bits(m + ((product + ((1 << by) >> 1) - negative) >> by << up));
}

// The same with a bfloat16 Dest, as an integer in units of the first phase's 2**-10.
template <int phases>
inline W multiply_bf16(W a, W b) {
    const I ma = significand_of<10>(a), mb = significand_of<10>(b), e = product_exponent(a, b);
    const I high_a = ma >> 6, low_a = ma >> 1 & 31, high_b = mb >> 4, low_b = (mb & 15) << 3;
    const W sign = (a ^ b) & kSign;
    const I negative = (I)(sign >> 31);
    I m = eight_bits(high_a * high_b);
    if (phases > 1) m = with_phase<5>(m, low_a * high_b, negative);
    if (phases > 2) m = with_phase<7>(m, high_a * low_b, negative);
    if (phases > 3) m = with_phase<12>(m, low_a * low_b, negative);
    const W w = to_float(m);
    return pick(e < 0, W{}, sign | (w + ((W)(e - 137) << 23)));
}

template <bool fp32_dest, int phases>
struct Multiply {
    bool from_zero;

    W operator()(W a, W b, W dest) const {
        a = source<fp32_dest>(a);
        b = source<fp32_dest>(b);
        const I e = product_exponent(a, b), largest = larger(exponent(a), exponent(b));
        const I ordinary = (largest < 255) & ((e == -1000) | ((e > 12) & (e < 252)));
        if (!from_zero || any(~ordinary)) return multiply_accumulate<fp32_dest, phases>(a, b, dest);
        return fp32_dest ? multiply_fp32<phases>(a, b) : multiply_bf16<phases>(a, b);
    }
};

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
        T part[kLanes] = {};
        std::memcpy(part, data + r * row + c, sizeof(T) * count);
        return load(part);
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

// What the packer writes of a Dest value to BFLOAT16, in the upper half: half away from zero, NaN as Inf, -0 as +0.
inline W packed(W w) {
    const W rounded = pick(exponent(w) == 255, (w & kSign) | kInf, w + 0x8000u);
    return pick(exponent(w) == 0, W{}, rounded);
}

template <class T>
void put(T* to, W w, long count) {
    T part[kLanes];
    store(part, w);
    std::memcpy(to, part, sizeof(T) * count);
}

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
