import BFloat16
import Testing

@Suite("bf16 as a BinaryFloatingPoint of the standard library")
struct FloatingPointTests {
    /// The same number in binary32, exactly.
    private func float(_ x: BFloat16) -> Float { Float(bitPattern: UInt32(x.bitPattern) << 16) }

    private var everyNumber: [BFloat16] { (0...UInt16.max).map { BFloat16(bitPattern: $0) }.filter { !$0.isNaN } }

    @Test("properties agree with binary32's, for every number")
    func properties() {
        for x in everyNumber {
            let f = float(x)
            #expect(x.sign == f.sign && x.isZero == f.isZero && x.isInfinite == f.isInfinite)
            #expect(x.exponent == f.exponent, "0x\(String(x.bitPattern, radix: 16))")
            #expect(float(x.significand) == f.significand)
            #expect(float(-x).bitPattern == (-f).bitPattern && float(x.magnitude) == f.magnitude)
            #expect(x.isSubnormal == (f.isSubnormal && f != 0))
            #expect(Float(x).bitPattern == f.bitPattern && BFloat16(f).bitPattern == x.bitPattern)
            #expect(BFloat16(exactly: f)?.bitPattern == x.bitPattern)
        }
    }

    @Test("the description reads back to the same bits, for every number")
    func descriptions() {
        for x in everyNumber { #expect(BFloat16(x.description)?.bitPattern == x.bitPattern, "\(x)") }
        #expect(BFloat16.nan.description == "nan")
        #expect(BFloat16("nan")?.isNaN == true)
        #expect(BFloat16("one") == nil && BFloat16("") == nil && BFloat16("1e") == nil)
        #expect(BFloat16(bitPattern: 0x3FC0).description == "1.5")
    }

    @Test("operators are the operations to nearest even; order and equality are binary32's")
    func operators() {
        let values = stride(from: 0, through: UInt16.max, by: 251).map { BFloat16(bitPattern: $0) }
        for a in values {
            for b in values {
                var flags: Flags = []
                #expect((a + b).bitPattern == BFloat16.add(a, b, flags: &flags).bitPattern)
                #expect((a - b).bitPattern == BFloat16.subtract(a, b, flags: &flags).bitPattern)
                #expect((a * b).bitPattern == BFloat16.multiply(a, b, flags: &flags).bitPattern)
                #expect((a / b).bitPattern == BFloat16.divide(a, b, flags: &flags).bitPattern)
                #expect((a < b) == (float(a) < float(b)) && (a == b) == (float(a) == float(b)))
                #expect((a <= b) == (float(a) <= float(b)))
            }
        }
    }

    @Test("literals, integers, rounding, neighbours, units")
    func values() {
        let half: BFloat16 = 0.5
        let three: BFloat16 = 3
        #expect(half.bitPattern == 0x3F00 && three.bitPattern == 0x4040)
        #expect(BFloat16(257) == 256, "a tie goes to even")
        #expect(BFloat16(259) == 260)
        #expect(BFloat16(exactly: 257) == nil)
        #expect(Int(BFloat16(bitPattern: 0xC040)) == -3)
        #expect((2.5 as BFloat16).rounded() == 3 && (2.5 as BFloat16).rounded(.toNearestOrEven) == 2)
        #expect((-2.5 as BFloat16).rounded(.towardZero) == -2 && (-2.5 as BFloat16).rounded(.down) == -3)
        #expect((1 as BFloat16).nextUp.bitPattern == 0x3F81 && (1 as BFloat16).ulp == BFloat16.ulpOfOne)
        #expect(BFloat16.pi.bitPattern == 0x4049)
        #expect((4 as BFloat16).squareRoot() == 2)
        #expect(BFloat16.greatestFiniteMagnitude.nextUp.isInfinite)
    }

    @Test("equal values hash alike, NaN equals nothing")
    func hashing() {
        #expect(Set([0.0 as BFloat16, -0.0, 1, 1]).count == 2)
        let notANumber = BFloat16.nan
        let equalsItself = notANumber == notANumber
        #expect(!equalsItself)
    }
}
