package x86

// What follows each opcode, one character per opcode:
//
//   - undefined in 64-bit mode        p  prefix or escape, never looked up
//     .  nothing                         m  ModRM
//     i  imm8                            b  ModRM imm8
//     z  imm16/32 by operand size        y  ModRM imm16/32
//     v  imm16/32/64                     w  imm16
//     d  rel32, whatever the prefixes    e  imm16 imm8
//     o  64-bit address (32 with 67h)    c  ModRM that is always a register (MOV CR, DR)
//     g  ModRM, imm8 if reg is 0 or 1    G  ModRM, imm16/32 if reg is 0 or 1
//     x  ModRM, two imm8 with 66h or F2h (EXTRQ, INSERTQ)
const layoutOne = "" +
	// 0 1 2 3 4 5 6 7 8 9 A B C D E F
	"mmmmiz--mmmmiz-p" + // 00
	"mmmmiz--mmmmiz--" + // 10
	"mmmmizp-mmmmizp-" + // 20
	"mmmmizp-mmmmizp-" + // 30
	"pppppppppppppppp" + // 40 REX
	"................" + // 50
	"--pmppppzyib...." + // 60
	"iiiiiiiiiiiiiiii" + // 70
	"by-bmmmmmmmmmmmm" + // 80
	"..........-....." + // 90
	"oooo....iz......" + // A0
	"iiiiiiiivvvvvvvv" + // B0
	"bbw.ppbye.w..i-." + // C0
	"mmmm---.mmmmmmmm" + // D0
	"iiiiiiiidd-i...." + // E0
	"p.pp..gG......mm" //   F0

const layout0F = "" +
	// 0 1 2 3 4 5 6 7 8 9 A B C D E F
	"mmmm-.....-.-m.p" + // 00
	"mmmmmmmmmmmmmmmm" + // 10
	"cccc----mmmmmmmm" + // 20
	"......-.p-p-----" + // 30
	"mmmmmmmmmmmmmmmm" + // 40
	"mmmmmmmmmmmmmmmm" + // 50
	"mmmmmmmmmmmmmmmm" + // 60
	"bbbbmmm.xm--mmmm" + // 70
	"dddddddddddddddd" + // 80
	"mmmmmmmmmmmmmmmm" + // 90
	"...mbmmm...mbmmm" + // A0
	"mmmmmmmmmmbmmmmm" + // B0
	"mmbmbbbm........" + // C0
	"mmmmmmmmmmmmmmmm" + // D0
	"mmmmmmmmmmmmmmmm" + // E0
	"mmmmmmmmmmmmmmmm" //   F0

// immLen returns the bytes of immediate after the rest of an instruction whose layout character is c.
func immLen(c byte, width int, in *Inst, addr32 bool) int {
	z := 4
	if width == 2 {
		z = 2
	}
	switch c {
	case 'i', 'b':
		return 1
	case 'z', 'y':
		return z
	case 'v':
		if width == 8 {
			return 8
		}
		return z
	case 'w':
		return 2
	case 'd':
		return 4
	case 'e':
		return 3
	case 'o':
		if addr32 {
			return 4
		}
		return 8
	case 'g', 'G':
		if in.Enc.ModRM>>3&7 > 1 {
			return 0
		}
		if c == 'g' {
			return 1
		}
		return z
	case 'x':
		if in.Enc.OpSize66 || in.Enc.PrefF2 {
			return 2
		}
	}
	return 0
}

// layoutOf returns the layout character of an opcode in a space.
func layoutOf(space int, opcode byte) byte {
	switch space {
	case spaceLegacy:
		return layoutOne[opcode]
	case spaceLegacy + 1:
		return layout0F[opcode]
	case spaceVEX:
		if opcode == 0x77 { // VZEROUPPER, VZEROALL
			return '.'
		}
		fallthrough
	case spaceEVEX:
		switch opcode {
		case 0x70, 0x71, 0x72, 0x73, 0xc2, 0xc4, 0xc5, 0xc6:
			return 'b'
		}
	case spaceLegacy + 3, spaceVEX + 2, spaceEVEX + 2, spaceXOP, space3DNow:
		return 'b'
	case spaceXOP + 2:
		return 'y' // always 32 bits: the caller passes width 4
	}
	return 'm'
}
