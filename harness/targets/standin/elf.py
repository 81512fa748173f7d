"""The one executable every kernel links to: a static RISC-V ELF, as small as ttnn accepts.

ttnn asks of a kernel's file: ELF32, little endian, RISC-V, executable; the first loadable segment is the text; the second,
the data, is packed behind it (its load address is where the text ends, wherever it runs); relocations of the text, in
HI20/LO12 pairs, none of them dynamic. It does not hold the addresses against the linker script's on a mock device.
Layout and constants: System V ABI, and the RISC-V ELF psABI (e_machine 243, R_RISCV_HI20 26, R_RISCV_LO12_I 27).
"""

from __future__ import annotations

import struct

TEXT_ADDRESS = 0x4000  # in L1, above the mailboxes
DATA_ADDRESS = 0xFFB00000  # a core's private memory

_HEADER, _PROGRAM_HEADER, _SECTION_HEADER = 52, 32, 40
_SECTIONS = (".text", ".data", ".rela.text", ".symtab", ".strtab", ".shstrtab")
_A0, _RETURN = 10, 0x00008067  # jalr x0, ra


def kernel_elf() -> bytes:
    """The file's bytes: `_start: lui a0, %hi(word); lw a0, %lo(word)(a0); ret` and `word: .word 1`."""
    upper, lower = (DATA_ADDRESS + 0x800) >> 12 & 0xFFFFF, DATA_ADDRESS & 0xFFF
    text = struct.pack(
        "<3I", upper << 12 | _A0 << 7 | 0x37, lower << 20 | _A0 << 15 | 2 << 12 | _A0 << 7 | 0x03, _RETURN
    )
    data = struct.pack("<I", 1)
    relocations = _relocation(TEXT_ADDRESS, kind=26) + _relocation(TEXT_ADDRESS + 4, kind=27)
    symbols = bytes(16) + _symbol(1, TEXT_ADDRESS, section=1) + _symbol(8, DATA_ADDRESS, section=2)
    section_names = b"\0" + b"".join(name.encode() + b"\0" for name in _SECTIONS)
    contents = (text, data, relocations, symbols, b"\0_start\0word\0", section_names)

    body, offsets = b"", []
    start = _HEADER + 2 * _PROGRAM_HEADER
    for content in contents:
        body += bytes(-(start + len(body)) % 16)
        offsets.append(start + len(body))
        body += content
    body += bytes(-(start + len(body)) % 4)

    # type, flags, address, link, info, entry size: PROGBITS 1, SYMTAB 2, STRTAB 3, RELA 4; ALLOC 2, EXECUTE 4, WRITE 1
    attributes = (
        (1, 6, TEXT_ADDRESS, 0, 0, 0),
        (1, 3, DATA_ADDRESS, 0, 0, 0),
        (4, 0x40, 0, 4, 1, 12),
        (2, 0, 0, 5, 1, 16),
        (3, 0, 0, 0, 0, 0),
        (3, 0, 0, 0, 0, 0),
    )
    headers = bytes(_SECTION_HEADER)
    for name, content, offset, (kind, flags, address, link, info, entry) in zip(
        _SECTIONS, contents, offsets, attributes, strict=True
    ):
        at = section_names.index(name.encode() + b"\0")
        headers += struct.pack("<10I", at, kind, flags, address, offset, len(content), link, info, 4, entry)
    loads = _load(offsets[0], TEXT_ADDRESS, TEXT_ADDRESS, len(text), flags=5)
    loads += _load(offsets[1], DATA_ADDRESS, TEXT_ADDRESS + len(text), len(data), flags=6)
    return _file_header(start + len(body)) + loads + body + headers


def _file_header(section_headers_at: int) -> bytes:
    identity = b"\x7fELF\x01\x01\x01" + bytes(9)
    fields = (2, 243, 1, TEXT_ADDRESS, _HEADER, section_headers_at, 0)  # EXEC, RISC-V, version 1
    sizes = (_HEADER, _PROGRAM_HEADER, 2, _SECTION_HEADER, len(_SECTIONS) + 1, len(_SECTIONS))
    return identity + struct.pack("<2H5I6H", *fields, *sizes)


def _load(offset: int, address: int, load_address: int, size: int, flags: int) -> bytes:
    return struct.pack("<8I", 1, offset, address, load_address, size, size, flags, 16)


def _symbol(name: int, value: int, section: int) -> bytes:
    return struct.pack("<3I2BH", name, value, 0, 0x10, 0, section)  # global


def _relocation(offset: int, kind: int) -> bytes:
    return struct.pack("<2Ii", offset, 2 << 8 | kind, 0)  # against symbol 2, the data word
