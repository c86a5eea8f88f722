/// The suites of golden files, in the order in which they are generated and reported.
public enum Suite: String, Sendable, CaseIterable, Codable {
    case bf16, dot, math, random, squinch, allreduce
    case zreg, visibility, clamp, gumbel, layers, training
}
