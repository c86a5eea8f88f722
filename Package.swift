// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

// Kernels are compiled for one instruction set each and chosen at run time. They are optimised in debug builds too: vectors of an unoptimised
// build are calls.
func kernels(_ flags: [String] = []) -> [SwiftSetting] {
    strict + [.unsafeFlags(["-O", "-Xcc", "-Wno-psabi"] + flags.flatMap { ["-Xcc", $0] })]
}

#if arch(x86_64)
    let avx2 = ["-mavx2", "-mfma"]
    let avx512 = avx2 + ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
    let kernelSets = [
        (name: "KernelsAVX2", flags: avx2), (name: "KernelsAVX512", flags: avx512),
        (name: "KernelsAVX512BF16", flags: avx512 + ["-mavx512bf16"]),
    ]
#else
    let avx2: [String] = []
    let kernelSets: [(name: String, flags: [String])] = []
#endif

let package = Package(
    name: "touchstone",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "BFloat16", targets: ["BFloat16"]),
        .library(name: "ExactMath", targets: ["ExactMath"]),
        .library(name: "ModelSpec", targets: ["ModelSpec"]),
        .library(name: "Reference", targets: ["Reference"]),
        .library(name: "Cases", targets: ["Cases"]),
        .library(name: "GoldenIO", targets: ["GoldenIO"]),
        .library(name: "Goldens", targets: ["Goldens"]),
        .library(name: "Checker", targets: ["Checker"]),
        .executable(name: "touchstone", targets: ["touchstone"]),
    ],
    traits: [
        .trait(
            name: "MPI",
            description: "`touchstone train --mpi`: ranks as processes under Open MPI, whose headers it needs.")
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.0.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0"),
    ],
    targets: [
        // The reference's side: scalar, integer-only arithmetic, written to be read.
        .target(name: "BFloat16", swiftSettings: strict),
        .target(name: "ExactMath", swiftSettings: strict),
        .target(name: "ModelSpec", swiftSettings: strict),
        .target(
            name: "Reference", dependencies: ["BFloat16", "ExactMath", "ModelSpec", "Platform"], swiftSettings: strict),

        // The engine's side: kernels for each instruction set over shared sources, and what calls them.
        .target(name: "CVector"),
        .target(name: "Kernels", swiftSettings: strict),
        .target(name: "KernelsPortable", dependencies: ["Kernels", "CVector"], swiftSettings: kernels()),
        .target(
            name: "Engine",
            dependencies: ["Kernels", "KernelsPortable", "ModelSpec", "Platform", "CProcessor"]
                + kernelSets.map { .target(name: $0.name) }, swiftSettings: strict),
        .target(name: "CProcessor"),
        // The program's answer to memory and threads that the system does not give. In no library: it stands before the C
        // library's allocator.
        .target(name: "CScarcity"),
        .target(
            name: "EngineOperations",
            dependencies: ["Engine", "Kernels", "Goldens", "Cases", "GoldenIO", "ModelSpec", "JSON"],
            swiftSettings: strict),

        // Ranks as processes: the one place that imports MPI, and only with the trait.
        .systemLibrary(
            name: "CMPI", pkgConfig: "ompi-c",
            providers: [.apt(["libopenmpi-dev"]), .brew(["open-mpi"])]),
        .target(
            name: "MPIRanks", dependencies: ["Engine", .target(name: "CMPI", condition: .when(traits: ["MPI"]))],
            swiftSettings: strict),

        // HTML pages and plots as text.
        .target(name: "Pages", swiftSettings: strict),

        // Cases, tensors and fingerprints in memory.
        .target(name: "JSON", swiftSettings: strict),
        .target(
            name: "Cases",
            dependencies: ["JSON", "ModelSpec", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict),

        // Cases in HDF5 files.
        .systemLibrary(
            name: "CHDF5", pkgConfig: "hdf5",
            providers: [.apt(["libhdf5-dev"]), .brew(["hdf5"])]),
        .target(
            name: "GoldenIO",
            dependencies: ["Cases", "CHDF5", "JSON", "Platform", .product(name: "Crypto", package: "swift-crypto")],
            swiftSettings: strict),

        // The one place that imports the C library of the platform.
        .target(name: "Platform", swiftSettings: strict),

        // Operations by name, case generators, truth and bounds; proofs; judging.
        .target(
            name: "Goldens",
            dependencies: ["BFloat16", "Cases", "ExactMath", "ModelSpec", "Reference", "JSON", "Platform"],
            swiftSettings: strict),
        .target(
            name: "Prover", dependencies: ["BFloat16", "ExactMath", "Reference", "Platform"],
            swiftSettings: strict),
        // The engine's functions held against the reference's: the one proof that needs both.
        .target(
            name: "EngineProver", dependencies: ["Engine", "ExactMath", "Kernels", "Platform", "Prover"],
            swiftSettings: strict),
        .target(
            name: "Checker",
            dependencies: [
                "BFloat16", "CTouchstonePlugin", "ExactMath", "Goldens", "Cases", "GoldenIO", "JSON", "ModelSpec",
                "Pages",
                "Platform", "Reference",
                .product(name: "Subprocess", package: "swift-subprocess"),
            ],
            swiftSettings: strict),

        // The interface of shared libraries that are judged: a header, for them and for the host.
        .target(name: "CTouchstonePlugin"),

        // Tokens from text, chats and document trees; packing; the order of training data.
        .target(
            name: "TrainingData", dependencies: ["ExactMath", "JSON", "ModelSpec", "Reference", "Platform"],
            swiftSettings: strict),
        // Distillation's soft targets, and experiments that show what the techniques do.
        .target(
            name: "Studies",
            dependencies: [
                "BFloat16", "Engine", "EngineOperations", "ExactMath", "Cases", "GoldenIO", "Goldens", "JSON",
                "Kernels",
                "ModelSpec",
                "Pages", "Platform", "Reference", "TrainingData",
            ], swiftSettings: strict),
        .executableTarget(
            name: "touchstone",
            dependencies: [
                "Checker", "Engine", "EngineOperations", "EngineProver", "Kernels", "Goldens", "Cases", "GoldenIO",
                "JSON",
                "ModelSpec", "MPIRanks",
                "BFloat16",
                "ExactMath", "Pages", "Prover", "Reference",
                "CScarcity", "Platform", "Studies", "TrainingData",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        .testTarget(name: "BFloat16Tests", dependencies: ["BFloat16", "Prover"], swiftSettings: strict),
        // The processor's own dot product instruction, for the tests that compare with it.
        .target(name: "CHardwareDot", path: "Tests/Support/CHardwareDot"),
        .testTarget(
            name: "ExactMathTests", dependencies: ["ExactMath", "Prover", "CHardwareDot"], swiftSettings: strict),
        .testTarget(
            name: "ReferenceTests", dependencies: ["Reference", "ExactMath", "BFloat16", "ModelSpec"],
            swiftSettings: strict),
        // The AVX-512 modules' sources for older instructions, so that they are tested everywhere.
        .target(
            name: "KernelsEmulated", dependencies: ["Kernels", "CVector"], path: "Tests/Support/KernelsEmulated",
            swiftSettings: kernels(avx2)),
        .testTarget(
            name: "EngineTests",
            dependencies: [
                "BFloat16", "Checker", "Engine", "EngineOperations", "EngineProver", "ExactMath", "Cases", "GoldenIO",
                "Goldens",
                "JSON", "Kernels", "KernelsEmulated", "ModelSpec", "Platform", "Prover", "Reference",
            ], swiftSettings: strict),
        .testTarget(
            name: "GoldenIOTests", dependencies: ["Cases", "GoldenIO", "JSON"], resources: [.copy("Fixtures")],
            swiftSettings: strict),
        .testTarget(
            name: "GoldensTests",
            dependencies: ["Goldens", "Cases", "JSON", "ModelSpec"],
            swiftSettings: strict),
        .testTarget(
            name: "CheckerTests",
            dependencies: [
                "BFloat16", "Checker", "ExactMath", "Goldens", "Cases", "GoldenIO", "JSON", "ModelSpec", "Reference",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "StudiesTests",
            dependencies: [
                "Engine", "ExactMath", "Cases", "GoldenIO", "ModelSpec", "Pages", "Studies", "TrainingData",
                "Reference",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "TrainingDataTests", dependencies: ["TrainingData", "JSON", "ModelSpec", "Reference", "ExactMath"],
            swiftSettings: strict),
        .testTarget(
            name: "CommandLineTests",
            dependencies: [
                "touchstone", "Checker", "Engine", "Cases", "GoldenIO", "JSON", "Platform",
                .product(name: "Subprocess", package: "swift-subprocess"),
            ],
            swiftSettings: strict),
    ]
        + kernelSets.map {
            .target(name: $0.name, dependencies: ["Kernels", "CVector"], swiftSettings: kernels($0.flags))
        }
)
