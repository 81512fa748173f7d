// AMX tiles: the system's permission to use them, and their shapes.
#pragma once

#ifdef __AMX_BF16__

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace tiles {

constexpr int kTileRows = 16;

// Whether the system lets this process use them.
inline bool allowed() {
    constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA of Linux
    static const bool answer = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
    return answer;
}

// Eight tiles for as long as it lives: 0 to 3 hold sums, 16 rows of 16 columns; 4 and 5 have 16 rows of `depth` bfloat16, 6 and 7
// half as many rows of 16 pairs.
struct Tiles {
    explicit Tiles(int depth = 32) {
        alignas(64) uint8_t config[64] = {1};
        for (int tile = 0; tile < 8; ++tile) {
            const bool left = tile == 4 || tile == 5, right = tile > 5;
            config[16 + 2 * tile] = left ? 2 * depth : 64;
            config[48 + tile] = right ? depth / 2 : kTileRows;
        }
        _tile_loadconfig(config);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

}  // namespace tiles

#endif
