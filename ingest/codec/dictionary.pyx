"""Dictionaries with a hash that is seeded anew in every process, so that nobody can prepare texts
that collide."""

import os

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from ingest.codec.memory cimport grow_memory, put_text, release
from ingest.codec.wire cimport read_fixed64

cdef enum:
    SLOTS_MIN = 64
    WORDS_MIN = 32

cdef uint64_t[3] seeds


def _choose_seeds() -> None:
    secret = os.urandom(24)
    for position in range(3):
        # Odd, so that no factor of the product is ever 0.
        seeds[position] = int.from_bytes(secret[8 * position : 8 * position + 8], "little") | 1


_choose_seeds()


cdef uint32_t hash_of(const uint8_t* at, size_t size) noexcept nogil:
    """A multiply-and-fold hash (the construction of wyhash), 16 bytes a step; what the last step
    reads overlaps what was read before, so that nothing is copied."""
    cdef uint64_t state = seeds[0] ^ size
    cdef const uint8_t* end = at + size
    cdef uint64_t low = 0
    cdef uint64_t high = 0
    cdef uint32_t half
    while end - at > 16:
        state = mix(read_fixed64(at) ^ seeds[1], read_fixed64(at + 8) ^ state)
        at += 16
    if size > 16:
        low = read_fixed64(end - 16)
        high = read_fixed64(end - 8)
    elif size >= 8:
        low = read_fixed64(at)
        high = read_fixed64(end - 8)
    elif size >= 4:
        memcpy(&half, at, 4)
        low = half
        memcpy(&half, end - 4, 4)
        high = half
    elif size:
        low = (<uint64_t>at[0] << 16) | (<uint64_t>at[size >> 1] << 8) | end[-1]
    state = mix(low ^ seeds[1], high ^ state)
    return <uint32_t>mix(state ^ seeds[2], seeds[1])


cdef void open_dictionary(Dictionary* dictionary) noexcept nogil:
    """An empty dictionary: only the word ''."""
    memset(dictionary, 0, sizeof(Dictionary))
    dictionary.slots = <uint32_t*>grow_memory(NULL, SLOTS_MIN * 4)
    dictionary.slot_mask = SLOTS_MIN - 1
    dictionary.room = WORDS_MIN
    dictionary.words = <Word*>grow_memory(NULL, WORDS_MIN * sizeof(Word))
    forget_words(dictionary)


cdef void close_dictionary(Dictionary* dictionary) noexcept nogil:
    release(&dictionary.texts)
    free(dictionary.words)
    free(dictionary.slots)


cdef void forget_words(Dictionary* dictionary) noexcept nogil:
    """Back to only the word ''; every number from before is void."""
    memset(dictionary.slots, 0, (<size_t>dictionary.slot_mask + 1) * 4)
    dictionary.texts.used = 0
    dictionary.count = 0
    dictionary.latest = 0
    look_up(dictionary, NULL, 0)


cdef void double_slots(Dictionary* dictionary) noexcept nogil:
    cdef size_t slots = 2 * (<size_t>dictionary.slot_mask + 1)
    cdef uint32_t number
    cdef uint32_t slot
    dictionary.slots = <uint32_t*>grow_memory(dictionary.slots, slots * 4)
    memset(dictionary.slots, 0, slots * 4)
    dictionary.slot_mask = <uint32_t>(slots - 1)
    for number in range(dictionary.count):
        slot = dictionary.words[number].hash & dictionary.slot_mask
        while dictionary.slots[slot]:
            slot = (slot + 1) & dictionary.slot_mask
        dictionary.slots[slot] = number + 1


cdef uint32_t look_up(Dictionary* dictionary, const uint8_t* at, size_t size) noexcept nogil:
    """The number of a text, which is added when it is new."""
    cdef uint32_t hash = hash_of(at, size)
    cdef uint32_t slot = hash & dictionary.slot_mask
    cdef uint32_t number
    while dictionary.slots[slot]:
        number = dictionary.slots[slot] - 1
        if dictionary.words[number].hash == hash and is_word(dictionary, number, at, size):
            return number
        slot = (slot + 1) & dictionary.slot_mask
    return add_word(dictionary, at, size, hash, slot)


cdef uint32_t add_word(
    Dictionary* dictionary, const uint8_t* at, size_t size, uint32_t hash, uint32_t slot
) noexcept nogil:
    cdef uint32_t number = dictionary.count
    cdef Word* word
    if number == dictionary.room:
        dictionary.words = <Word*>grow_memory(
            dictionary.words, 2 * <size_t>dictionary.room * sizeof(Word)
        )
        dictionary.room *= 2
    put_text(&dictionary.texts, at, size)
    word = dictionary.words + number
    word.size = <uint32_t>size
    word.start = <uint32_t>(dictionary.texts.used - size)
    word.hash = hash
    word.follower = 0
    word.hint = 0
    dictionary.slots[slot] = number + 1
    dictionary.count += 1
    if 2 * dictionary.count > dictionary.slot_mask:
        double_slots(dictionary)
    return number
