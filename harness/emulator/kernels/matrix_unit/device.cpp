// Products of slices are exact in float32, so whether they are fused with a sum does not matter: let them be.
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

#include "device.h"

#include <cstring>

#include "dest.h"
#include "loose.h"

namespace {

using namespace groups;

inline W smaller(W a, W b) { return a < b ? a : b; }

// Enlarges a product by so little that none but one at a tie changes its rounding.
constexpr float kPastTheTie = 1 + 1.0f / 8192;

// Columns of row k of a panel, as float32 bits.
inline W row_of(const uint32_t* panel, bool wide, long k, long column) {
    if (wide) return load<W>(panel + k * kPanel + column);
    const W pairs = load<W>(panel + k / 2 * kPanel + column);
    return k % 2 ? pairs & 0xFFFF0000u : pairs << 16;
}

inline W exponent_or_none(W bits) {
    return (W)lanes::pick(lanes::exponent(bits) == 0, lanes::all_int(kNoExponent), lanes::exponent(bits));
}

template <class Values, Dest Kind, int Phases>
long accumulate(float* values, const Operands& p, long first, long last) {
    Sums sums;
    long struck = 0;
    for (int column = 0; column < kPanel; column += 2 * kLanes) {
        Values dest(values + column);
        for (long tile = first; tile < last; tile += kTile) {
            sum_tile<Phases, slices_a(Kind, Phases), slices_b(Kind, Phases), Kind == Dest::k16>(p, tile, column, sums);
            dest.template add<0>(sums);
            if constexpr (Phases > 1) dest.template add<1>(sums);
            if constexpr (Phases > 2) dest.template add<2>(sums);
            if constexpr (Phases > 3) dest.template add<3>(sums);
        }
        struck += dest.store(values + column);
    }
    return struck;
}

template <class Values, Dest Kind>
long accumulate(float* values, const Operands& p, long first, long last, int phases) {
    switch (phases) {
        case 1: return accumulate<Values, Kind, 1>(values, p, first, last);
        case 2: return accumulate<Values, Kind, 2>(values, p, first, last);
        case 3: return accumulate<Values, Kind, 3>(values, p, first, last);
        default: return accumulate<Values, Kind, 4>(values, p, first, last);
    }
}

template <Dest Kind>
long accumulate_loosely(float* values, const Operands& p, long first, long last, int phases) {
    switch (phases) {
        case 1: groups::accumulate_loosely<Kind, 1>(values, p, first, last); break;
        case 2: groups::accumulate_loosely<Kind, 2>(values, p, first, last); break;
        case 3: groups::accumulate_loosely<Kind, 3>(values, p, first, last); break;
        default: groups::accumulate_loosely<Kind, 4>(values, p, first, last);
    }
    return 0;
}

}  // namespace

Range device_take_apart_a(const uint32_t* panel, bool wide, long k, Dest dest, int phases, float* a, uint32_t* exponent_a) {
    const int slices = slices_a(dest, phases);
    W below_least = lanes::all(255 * Range::kOne), highest{};
    for (long i = 0; i < k; ++i)
        for (long n = 0; n < kPanel; n += 2 * kLanes) {
            W bits[2];
            for (int h = 0; h < 2; ++h) {
                bits[h] = row_of(panel, wide, i, n + h * kLanes);
                const W exponent = bits[h] & lanes::kInf;
                below_least = smaller(below_least, exponent - Range::kOne);
                highest = larger(highest, exponent);
                const F high = (F)(bits[h] & kSideA.high), all = (F)(bits[h] & kSideA.all);
                const F low = all - high;
                F slice[2];
                switch (dest) {
                    case Dest::kLoose16: slice[0] = high, slice[1] = low; break;
                    case Dest::kLoose32: slice[0] = phases > 1 ? all : high, slice[1] = high; break;
                    default: slice[0] = high * kPastTheTie, slice[1] = low / kLowerA * kPastTheTie;
                }
                for (int s = 0; s < slices; ++s)
                    lanes::store(a + (i * slices + s) * kPanel + n + h * kLanes, (W)slice[s]);
            }
            const W pair = (exponent_or_none(bits[0]) & 0xFFFFu) | exponent_or_none(bits[1]) << 16;
            std::memcpy(exponent_a + (i * kPanel + n) / 2, &pair, sizeof pair);
        }
    Range range;
    for (int i = 0; i < kLanes; ++i) range.add(Range{below_least[i], highest[i]});
    return range;
}

long device_accumulate(float* values, const Operands& operands, long first, long last, Dest dest, int phases) {
    switch (dest) {
        case Dest::k16: return accumulate<Dest16, Dest::k16>(values, operands, first, last, phases);
        case Dest::k32: return accumulate<Dest32, Dest::k32>(values, operands, first, last, phases);
        case Dest::kLoose16: return accumulate_loosely<Dest::kLoose16>(values, operands, first, last, phases);
        default: return accumulate_loosely<Dest::kLoose32>(values, operands, first, last, phases);
    }
}
