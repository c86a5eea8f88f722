import Cases
import ExactMath

// The operations `random.*`: clauses G1-G4.

let randomOperations: [Operation] = [
    Operation("random.philox") { given in
        let key = given.integers("key", UInt32.self)
        let counter = given.integers("counter", UInt32.self)
        let n = given.size("n")
        var words: [UInt32] = []
        for row in 0..<n {
            let block = Philox4x32.block(
                key: (key[2 * row], key[2 * row + 1]),
                counter: (counter[4 * row], counter[4 * row + 1], counter[4 * row + 2], counter[4 * row + 3]))
            words += [block.0, block.1, block.2, block.3]
        }
        var result = CaseResult()
        result.output("words", Tensor(words, shape: [n, 4]))
        return result
    },
    Operation("random.uniform") { given in
        let words = given.integers("words", UInt32.self)
        var result = CaseResult()
        result.output("x", words.map(RandomDistributions.uniform), [words.count])
        return result
    },
    Operation("random.gumbel") { given in
        let words = given.integers("words", UInt32.self)
        var result = CaseResult()
        result.output("x", words.map(RandomDistributions.gumbel), [words.count])
        return result
    },
    Operation("random.normal") { given in
        let words = given.integers("words", UInt32.self)
        let n = given.size("n")
        var values: [Float] = []
        for row in 0..<n {
            let pair = RandomDistributions.normal(words[2 * row], words[2 * row + 1])
            values += [pair.0, pair.1]
        }
        var result = CaseResult()
        result.output("x", values, [n, 2])
        return result
    },
]
