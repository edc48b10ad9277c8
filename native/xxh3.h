/* XXH3-64 without a seed, written from the specification of xxHash. The tests compare it with the package `xxhash`
 * for every length that it treats in a way of its own. For little-endian machines with 128-bit products. */
#ifndef ORDERSYNC_XXH3_H
#define ORDERSYNC_XXH3_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || !defined(__SIZEOF_INT128__)
#error "the reader of content is for little-endian machines with 128-bit products"
#endif

#define P32_1 0x9E3779B1U
#define P32_2 0x85EBCA77U
#define P32_3 0xC2B2AE3DU
#define P64_1 0x9E3779B185EBCA87ULL
#define P64_2 0xC2B2AE3D27D4EB4FULL
#define P64_3 0x165667B19E3779F9ULL
#define P64_4 0x85EBCA77C2B2AE63ULL
#define P64_5 0x27D4EB2F165667C5ULL
#define MIX_1 0x165667919E3779F9ULL
#define MIX_2 0x9FB21C651E98DF25ULL

#define STRIPE 64
#define BLOCK 1024 /* after as many bytes the sums are scrambled: 16 stripes, each 8 bytes further in the secret */
#define SECRET_SIZE 192

static const unsigned char secret[SECRET_SIZE] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint32_t u32(const unsigned char *from) {
    uint32_t number;
    memcpy(&number, from, 4);
    return number;
}

static inline uint64_t u64(const unsigned char *from) {
    uint64_t number;
    memcpy(&number, from, 8);
    return number;
}

static inline uint64_t turned(uint64_t number, int bits) {
    return number << bits | number >> (64 - bits);
}

static inline uint64_t folded(uint64_t one, uint64_t other) {
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t mixed(const unsigned char *from, size_t at) {
    return folded(u64(from) ^ u64(secret + at), u64(from + 8) ^ u64(secret + at + 8));
}

static inline uint64_t finished(uint64_t hash) {
    hash = (hash ^ hash >> 37) * MIX_1;
    return hash ^ hash >> 32;
}

static inline uint64_t finished_short(uint64_t hash) {
    hash = (hash ^ hash >> 33) * P64_2;
    hash = (hash ^ hash >> 29) * P64_3;
    return hash ^ hash >> 32;
}

static inline uint64_t hash_to_16(const unsigned char *from, size_t size) {
    if (size > 8) {
        uint64_t low = u64(secret + 24) ^ u64(secret + 32) ^ u64(from);
        uint64_t high = u64(secret + 40) ^ u64(secret + 48) ^ u64(from + size - 8);
        return finished(size + __builtin_bswap64(low) + high + folded(low, high));
    }
    if (size >= 4) {
        uint64_t both = (uint64_t)u32(from) << 32 | u32(from + size - 4);
        uint64_t hash = u64(secret + 8) ^ u64(secret + 16) ^ both;
        hash = (hash ^ turned(hash, 49) ^ turned(hash, 24)) * MIX_2;
        hash = (hash ^ ((hash >> 35) + size)) * MIX_2;
        return hash ^ hash >> 28;
    }
    if (size > 0) {
        uint32_t all = (uint32_t)from[0] << 16 | (uint32_t)from[size >> 1] << 24 | from[size - 1] | (uint32_t)size << 8;
        return finished_short((uint64_t)(u32(secret) ^ u32(secret + 4)) ^ all);
    }
    return finished_short(u64(secret + 56) ^ u64(secret + 64));
}

static inline uint64_t hash_to_128(const unsigned char *from, size_t size) {
    uint64_t hash = size * P64_1;
    for (size_t pair = (size - 1) / 32 + 1; pair-- > 0;) {
        hash += mixed(from + pair * 16, pair * 32);
        hash += mixed(from + size - (pair + 1) * 16, pair * 32 + 16);
    }
    return finished(hash);
}

static uint64_t hash_to_240(const unsigned char *from, size_t size) {
    uint64_t hash = size * P64_1;
    for (size_t part = 0; part < 8; part++) hash += mixed(from + part * 16, part * 16);
    hash = finished(hash);
    for (size_t part = 8; part < size / 16; part++) hash += mixed(from + part * 16, (part - 8) * 16 + 3);
    return finished(hash + mixed(from + size - 16, 119));
}

static inline void add_stripe(uint64_t sums[8], const unsigned char *from, size_t at) {
    for (size_t lane = 0; lane < 8; lane++) {
        uint64_t given = u64(from + lane * 8), keyed = given ^ u64(secret + at + lane * 8);
        sums[lane ^ 1] += given;
        sums[lane] += (keyed & 0xffffffffULL) * (keyed >> 32);
    }
}

static uint64_t hash_long(const unsigned char *from, size_t size) {
    uint64_t sums[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    size_t at = 0;
    for (; at + BLOCK < size; at += BLOCK) {
        for (size_t stripe = 0; stripe < BLOCK / STRIPE; stripe++) add_stripe(sums, from + at + stripe * STRIPE, stripe * 8);
        for (size_t lane = 0; lane < 8; lane++) {
            sums[lane] ^= sums[lane] >> 47 ^ u64(secret + SECRET_SIZE - STRIPE + lane * 8);
            sums[lane] *= P32_1;
        }
    }
    for (size_t stripe = 0; at + STRIPE < size; at += STRIPE, stripe++) add_stripe(sums, from + at, stripe * 8);
    add_stripe(sums, from + size - STRIPE, SECRET_SIZE - STRIPE - 7);
    uint64_t hash = size * P64_1;
    for (size_t pair = 0; pair < 4; pair++) {
        const unsigned char *key = secret + 11 + pair * 16;
        hash += folded(sums[pair * 2] ^ u64(key), sums[pair * 2 + 1] ^ u64(key + 8));
    }
    return finished(hash);
}

static inline uint64_t xxh3(const unsigned char *from, size_t size) {
    if (size <= 16) return hash_to_16(from, size);
    if (size <= 128) return hash_to_128(from, size);
    return size <= 240 ? hash_to_240(from, size) : hash_long(from, size);
}

#endif
