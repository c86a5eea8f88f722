import ExactMath
import GoldenIO

// The operations `random.*`: clauses G1-G4.

let randomOperations: [Operation] = [
    Operation("random.philox", .random, "blocks of Philox4x32-10", clauses: ["G1"]) { reader in
        let key = try reader.integers("key", UInt32.self, "n", "2")
        let counter = try reader.integers("counter", UInt32.self, "n", "4")
        try reader.finish()
        let n = reader.size("n")
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
    Operation("random.uniform", .random, "uniform on (0, 1) from a word", clauses: ["G2"]) { reader in
        let words = try reader.integers("words", UInt32.self, "n")
        try reader.finish()
        var result = CaseResult()
        result.output("x", words.map(RandomDistributions.uniform), [words.count])
        return result
    },
    Operation("random.gumbel", .random, "standard Gumbel from a word", clauses: ["G3", "E1"]) { reader in
        let words = try reader.integers("words", UInt32.self, "n")
        try reader.finish()
        var result = CaseResult()
        result.output("x", words.map(RandomDistributions.gumbel), [words.count])
        return result
    },
    Operation("random.normal", .random, "two standard normals from two words", clauses: ["G4", "E1"]) { reader in
        let words = try reader.integers("words", UInt32.self, "n", "2")
        try reader.finish()
        let n = reader.size("n")
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
