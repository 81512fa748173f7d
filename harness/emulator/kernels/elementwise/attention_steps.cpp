// The steps of prefill attention between its products, a row at a time: the rules of ops/attention/prefill_steps.py, where they are
// spelled out step by step.

#include <algorithm>
#include <type_traits>

#include "eltwise.h"
#include "parallel.h"
#include "sfpu.h"

extern "C" {

// One chunk of keys before its weights meet the values. `largest` and `sums` are of all rows, those before `first` not in it.
struct Weighing {
    const float* scores;          // [matrices][rows][keys]
    void* weights;                // likewise, of a source register: TF32 with a float32 Dest, else bfloat16; may be `scores`
    uint16_t* largest;            // [matrices][all_rows], of the chunks before; then of this one too
    void* sums;                   // [matrices][all_rows][32], float32 or bfloat16 like `weights`: likewise
    uint16_t* alpha;              // [matrices][rows]: what earlier sums and outputs are multiplied by
    const uint16_t* corrections;  // with a bfloat16 Dest: alpha of every bfloat16, by its bits as a signed number plus 2**15
    int64_t matrices, rows, keys, all_rows, first;
    int64_t seen;                 // keys that the first row sees; each row sees one more
    float scale, correction_scale, approximate_factor;
    int32_t exp_approx, fp32_dest, phases;
    int32_t onto;                 // there are chunks before
    int32_t threads;
};

// What the weights made of the values, added to the outputs of the chunks before.
struct Outputs {
    const void* part;  // [matrices][rows][width]: Dest values with a float32 Dest, else bfloat16
    uint16_t* out;     // [matrices][all_rows][width]
    const uint16_t* alpha;
    int64_t matrices, rows, width, all_rows, first;
    int32_t fp32_dest, phases, onto, threads;
};

}  // extern "C"

namespace {

using namespace lanes;

constexpr long kTile = 32, kRows = 16;  // rows that a thread takes at a time

inline W one(uint16_t x) { return all((Word)x << 16); }

// What the packer writes of a Dest value to BFLOAT16, as float32.
inline W packed(W dest) { return eltwise::packed(dest) & 0xFFFF0000u; }

// The sum of two bfloat16, rounded half to even.
inline W add_bf16(W a, W b) {
    const F sum = (F)a + (F)b;
    const W w = (W)sum;
    return sum == sum ? (w + 0x7FFFu + (w >> 16 & 1)) & 0xFFFF0000u : all(0xFFFF0000u);
}

template <bool fp32_dest>
inline W product(int phases, W a, W b) {
    switch (phases) {
        case 1: return eltwise::Multiply<fp32_dest, 1>{true}(a, b, W{});
        case 2: return eltwise::Multiply<fp32_dest, 2>{true}(a, b, W{});
        case 3: return eltwise::Multiply<fp32_dest, 3>{true}(a, b, W{});
        default: return eltwise::Multiply<fp32_dest, 4>{true}(a, b, W{});
    }
}

template <bool fp32_dest>
inline W difference(W a, W b) {
    return eltwise::Add<fp32_dest>{kSign}(a, b, W{});
}

// Lanes below n.
inline I below(long n) {
    I lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    return lane < all_int(n < kLanes ? (int)n : kLanes);
}

// Rows [begin, end), at most kRows, of one matrix.
template <bool fp32_dest>
class Weigher {
    using T = std::conditional_t<fp32_dest, float, uint16_t>;

   public:
    explicit Weigher(const Weighing& w) : w_(w) {}

    void rows(long matrix, long begin, long end) const {
        alignas(64) uint16_t before[kRows] = {}, now[kRows] = {}, alpha[kRows] = {};
        const long at = matrix * w_.all_rows + w_.first + begin, count = end - begin;
        std::copy(w_.largest + at, w_.largest + at + count, before);
        for (long r = 0; r < count; ++r) {
            Word most = bits(largest(matrix * w_.rows + begin + r, seen(begin + r))) & 0xFFFF0000u;
            if (w_.onto) most = bits(std::max(number(most), number((Word)before[r] << 16)));
            now[r] = most >> 16;
        }
        std::copy(now, now + count, w_.largest + at);
        if (w_.onto) {
            for (long r = 0; r < kRows; r += kLanes) correct(before + r, now + r, alpha + r);
            std::copy(alpha, alpha + count, w_.alpha + matrix * w_.rows + begin);
        }
        for (long r = 0; r < count; ++r)
            weigh(matrix * w_.rows + begin + r, at + r, seen(begin + r), one(now[r]), one(alpha[r]));
    }

   private:
    static float number(Word w) {
        float x;
        std::memcpy(&x, &w, sizeof x);
        return x;
    }

    long seen(long row) const { return std::max(0l, std::min<long>(w_.keys, w_.seen + row)); }

    float largest(long row, long seen) const {
        const float* scores = w_.scores + row * w_.keys;
        const F least = F{} - __builtin_inff();
        F most = least;
        for (long key = 0; key < seen; key += kLanes) {
            F x = (F)some(scores + key, seen - key);
            if (seen - key < kLanes) x = below(seen - key) ? x : least;
            most = x > most ? x : most;
        }
        float result = most[0];
        for (int i = 1; i < kLanes; ++i) result = std::max(result, (float)most[i]);
        return result;
    }

    // What earlier sums and outputs are multiplied by.
    void correct(const uint16_t* before, const uint16_t* now, uint16_t* alpha) const {
        const W fall = difference<fp32_dest>(load(before), load(now));
        if constexpr (fp32_dest) {
            const W factor = w_.exp_approx ? sfpu::exp(mul(fall, w_.correction_scale))
                                           : sfpu::correction(fall, w_.correction_scale);
            store(alpha, packed(stored(factor)));
        } else {
            for (int i = 0; i < kLanes; ++i) alpha[i] = w_.corrections[((int32_t)fall[i] >> 16) + (1 << 15)];
        }
    }

    W weight(W score, W largest) const {
        W less = difference<fp32_dest>(score, largest), power;
        if constexpr (fp32_dest) {
            power = w_.exp_approx ? sfpu::exp_approximate(less, w_.approximate_factor)
                                  : sfpu::exp(sfpu::scaled_by(less, w_.scale));
            power = stored(power);
        } else {
            power = stored(sfpu::exp_approximate(packed(less), w_.approximate_factor)) & 0xFFFF0000u;
        }
        return pick(negative(power), W{}, power);
    }

    // Makes weights of a row's scores, and adds them tile on tile to the row's sums.
    void weigh(long row, long state, long seen, W largest, W alpha) const {
        const float* scores = w_.scores + row * w_.keys;
        T* weights = static_cast<T*>(w_.weights) + row * w_.keys;
        const W hidden = seen < w_.keys ? weight((W)(F{} - __builtin_inff()), largest) : W{};
        W total[kTile / kLanes] = {};
        for (long key = 0; key < w_.keys; key += kLanes) {
            W power = hidden;
            if (key + kLanes <= seen) {
                power = weight(load(scores + key), largest);
            } else if (key < seen) {
                const I is_seen = below(seen - key);
                power = pick(is_seen, weight(pick(is_seen, some(scores + key, seen - key), largest), largest), hidden);
            }
            if (w_.keys - key < kLanes) power = pick(below(w_.keys - key), power, W{});
            put(weights + key, eltwise::source<fp32_dest>(power), w_.keys - key);
            W& sum = total[key % kTile / kLanes];
            sum = key < kTile ? power : fp32_dest ? (W)((F)sum + (F)power) : add_bf16(sum, power);
        }
        T* sums = static_cast<T*>(w_.sums) + state * kTile;
        for (long i = 0; i < kTile; i += kLanes) {
            W& sum = total[i / kLanes];
            if (w_.onto) {
                const W earlier = product<fp32_dest>(w_.phases, load(sums + i), alpha);
                sum = fp32_dest ? eltwise::Add<fp32_dest>{0}(sum, earlier, W{}) : add_bf16(sum, packed(earlier));
            }
            store(sums + i, sum);
        }
    }

    const Weighing& w_;
};

template <bool fp32_dest>
void add_row(const Outputs& o, long row, long state) {
    using T = std::conditional_t<fp32_dest, float, uint16_t>;
    const T* part = static_cast<const T*>(o.part) + row * o.width;
    uint16_t* out = o.out + state * o.width;
    const W alpha = o.onto ? one(o.alpha[row]) : W{};
    for (long i = 0; i < o.width; i += kLanes) {
        const long count = o.width - i;
        W sum = some(part + i, count);
        if (fp32_dest) sum = packed(sum);
        if (o.onto) sum = add_bf16(sum, packed(product<fp32_dest>(o.phases, some(out + i, count), alpha)));
        put(out + i, sum, count);
    }
}

// Calls body(matrix, begin, end) for all groups of rows.
template <class Body>
void for_rows(long matrices, long rows, int threads, const Body& body) {
    const long groups = (rows + kRows - 1) / kRows;
    parallel_for(threads, matrices * groups, [&](long item) {
        const long begin = item % groups * kRows;
        body(item / groups, begin, std::min(rows, begin + kRows));
    });
}

}  // namespace

extern "C" {

void attention_weigh(const Weighing* call) {
    for_rows(call->matrices, call->rows, call->threads, [&](long matrix, long begin, long end) {
        if (call->fp32_dest)
            Weigher<true>(*call).rows(matrix, begin, end);
        else
            Weigher<false>(*call).rows(matrix, begin, end);
    });
}

void attention_add_outputs(const Outputs* call) {
    for_rows(call->matrices, call->rows, call->threads, [&](long matrix, long begin, long end) {
        for (long r = begin; r < end; ++r) {
            const long row = matrix * call->rows + r, state = matrix * call->all_rows + call->first + r;
            if (call->fp32_dest)
                add_row<true>(*call, row, state);
            else
                add_row<false>(*call, row, state);
        }
    });
}
}
