/* SPDX-License-Identifier: GPL-2.0 */
/* Generated from sfi/forms.txt and target/ by: SFI_UPDATE=1 go test -run CTables ./sfi. Do not edit. */
#ifndef UB_POLICY_H
#define UB_POLICY_H

enum {
	UB_RULE_FORM = 1,
	UB_RULE_TRUNCATED = 2,
	UB_RULE_PREFIX = 3,
	UB_RULE_LOCK = 4,
	UB_RULE_RSP = 5,
	UB_RULE_RBP = 6,
	UB_RULE_PRIVILEGED = 7,
	UB_RULE_SYSTEM = 8,
	UB_RULE_STACK = 9,
	UB_RULE_INDIRECT = 10,
	UB_RULE_SEGMENT = 11,
	UB_RULE_FLAGS = 12,
	UB_RULE_VECTOR = 13,
	UB_RULE_X87 = 14,
	UB_RULE_TSX = 15,
	UB_RULE_STRING = 16,
	UB_RULE_BITS = 17,
	UB_RULE_HIDDEN = 18,
	UB_RULE_CACHE = 19,
	UB_RULE_TRAP = 20,
	UB_RULE_MEMORY = 21,
	UB_RULE_SLOT = 22,
	UB_RULE_ADDRESS = 23,
	UB_RULE_TOUCH = 24,
	UB_RULE_COUNT = 25,
	UB_RULE_POLL = 26,
	UB_RULE_TARGET = 27,
	UB_RULE_BACKWARD = 28,
	UB_RULE_END = 29,
	UB_RULE_ENTRY = 30,
	UB_RULE_LOOPS = 31,
	UB_RULE_FAULT = 32,
	UB_RULE_INPUT = 33,
	UB_NUM_RULES = 34,
};

#define UB_RULE_NAMES { \
	"none", \
	"form", \
	"truncated", \
	"prefix", \
	"lock", \
	"rsp", \
	"rbp", \
	"privileged", \
	"system", \
	"stack", \
	"indirect", \
	"segment", \
	"flags", \
	"vector", \
	"x87", \
	"tsx", \
	"string", \
	"bits", \
	"hidden", \
	"cache", \
	"trap", \
	"memory", \
	"slot", \
	"address", \
	"touch", \
	"count", \
	"poll", \
	"target", \
	"backward", \
	"end", \
	"entry", \
	"loops", \
	"fault", \
	"input", \
}

#define UB_MAX_STEPS 0x40
#define UB_PATIENCE 0x6
#define UB_SLOT_FS_BASE 0x40
#define UB_SLOT_ADDR_MASK 0x48
#define UB_SLOTS_END 0x50
#define UB_WRITABLE_END 0x40
#define UB_TAG_SHIFT 0x38
#define UB_MAX_TAG 0xff
#define UB_POLL_DISP 0x0
#define UB_TOUCH_DISP 0x0
#define UB_MAX_REP_COUNT 0x10000
#define UB_NUMBERS 0x800000000000ll
#define UB_WINDOW_BELOW 0x100000ll
#define UB_WINDOW_ABOVE 0x100000000ll
#define UB_TOUCHED_BELOW 0x100000ll
#define UB_TOUCHED_ABOVE 0x100000ll
#define UB_WALK_BELOW 0x200ll

#define UB_NUM_SPACES 10
#define UB_SPACE_0F 1
#define UB_SPACE_0F38 2
#define UB_SPACE_0F3A 3
#define UB_SPACE_VEX 4
#define UB_SPACE_EVEX 7

/* The words of forms.txt about prefixes, control, and what the destination is known to be. */
enum { UB_ABSENT = 0, UB_OPTIONAL = 1, UB_REQUIRED = 2 };
enum { UB_NEXT = 0, UB_JMP = 1, UB_JCC = 2 };
enum { UB_LEN512 = 4, UB_LENIGNORED = 8, UB_BCASTW = 255 };

enum {
	UB_FX_NONE,
	UB_FX_COPY,
	UB_FX_IMM,
	UB_FX_ZEXT,
	UB_FX_LEA,
	UB_FX_SHR,
	UB_FX_PDEP,
	UB_FX_PLUS,
	UB_FX_MINUS,
	UB_FX_PLUS1,
	UB_FX_MINUS1,
	UB_FX_MOVS,
	UB_FX_STOS,
};

#endif
