import ExactMath

// Inputs that are searched for, not drawn: they make a last bit of fp32 visible in an output that is rounded to bf16.

/// The three bf16 parts of a finite fp32 of moderate size: their sum is exact in any order.
func bf16Parts(_ x: Float) -> [UInt16] {
    var rest = x
    return (0..<3).map { _ in
        let part = UInt16(rest.bitPattern >> 16)
        rest -= Float(bitPattern: UInt32(part) << 16)
        return part
    }
}

/// Differences x < 0 of two logits for which P = exp(x) / (1 + exp(x)) is a tie between two bf16 numbers, or beside one, in turn where a product with
/// the reciprocal of the sum and where exp(x - Z) would round to the other bf16 number.
func logitsOfTiedProbabilities(_ count: Int) -> [Float] {
    var byReciprocal: [Float] = []
    var byLogarithm: [Float] = []
    var significand = 129
    while significand < 512 && min(byReciprocal.count, byLogarithm.count) < (count + 1) / 2 {
        let tie = Float(significand) / 1024
        significand += 2
        var x = CorrectlyRounded.log(tie / (1 - tie))
        for _ in 0..<8 { x = x.nextDown }
        for _ in 0..<17 {
            let e = CorrectlyRounded.exp(x)
            let sum = 1 + e
            let rounded = SoftFloat32.roundToBFloat16(e / sum)
            if byReciprocal.count < count, SoftFloat32.roundToBFloat16(e * (1 / sum)) != rounded {
                byReciprocal.append(x)
                break
            }
            if byLogarithm.count < count,
                SoftFloat32.roundToBFloat16(CorrectlyRounded.exp(x - CorrectlyRounded.log(sum))) != rounded
            {
                byLogarithm.append(x)
                break
            }
            x = x.nextUp
        }
    }
    var all: [Float] = []
    for index in 0..<count {
        let (first, second) = index % 2 == 0 ? (byReciprocal, byLogarithm) : (byLogarithm, byReciprocal)
        let place = index / 2
        if place < first.count { all.append(first[place]) } else { all.append(second[place % max(1, second.count)]) }
    }
    return all
}

/// Logits, the last the largest, whose log-sum-exp is about `z`, near 0: maximum and log(sum) cancel, and Z shows the last bits of both.
func logitsOfSmallZ(_ random: inout CaseRandom, _ count: Int, z: Float) -> [Float] {
    var offsets = (1..<count).map { _ in -3.5 - random.float(exponents: 127...127).magnitude }
    offsets.append(0)
    let shift = CorrectlyRounded.log(offsets.reduce(0) { $0 + CorrectlyRounded.exp($1) }) - z
    return offsets.map { $0 - shift }
}

/// A permutation of 0..<count.
func permutation(_ random: inout CaseRandom, _ count: Int) -> [Int] {
    var order = Array(0..<count)
    for place in stride(from: count - 1, to: 0, by: -1) { order.swapAt(place, random.index(below: place + 1)) }
    return order
}
