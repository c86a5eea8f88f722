import Engine
import ModelSpec
import Testing

@Suite("The model of a network")
struct NetworkModelTests {
    private func work(bytes: Int, codec: NetworkModel.Codec = .init(encode: 0, add: 0, decode: 0)) -> NetworkModel.Work
    {
        NetworkModel.Work(elements: 1000, bytes: bytes, tokens: 512, passes: 0.5, update: 0.125, codec: codec)
    }

    @Test("worked by hand")
    func numbers() {
        let network = NetworkModel(bandwidth: 1000, latency: 0.01)
        let codec = NetworkModel.Codec(encode: 1e-4, add: 2e-4, decode: 3e-4, feedback: 5e-4)
        let e = network.estimate(work(bytes: 4000, codec: codec), ranks: 4)
        #expect(e.bytes == 6000)
        #expect(abs(e.exchange - 2 * 3 * (0.01 + 1)) < 1e-12)
        #expect(abs(e.coding - (0.1 + 0.2 + 0.025 + 0.3 + 0.5)) < 1e-12)
        #expect(abs(e.apart - (0.5 + 0.125 + e.exchange + e.coding)) < 1e-12)
        #expect(abs(e.overlapped - (e.exchange + e.coding + 0.125)) < 1e-12)
        #expect(e.tokens == 2048 && e.rate.apart == 2048 / e.apart)
    }

    @Test("one rank exchanges nothing")
    func alone() {
        let codec = NetworkModel.Codec(encode: 1, add: 1, decode: 1)
        let e = NetworkModel(bandwidth: 1, latency: 1).estimate(work(bytes: 4000, codec: codec), ranks: 1)
        #expect(e.bytes == 0 && e.exchange == 0 && e.coding == 0)
        #expect(e.apart == 0.625 && e.overlapped == 0.625)
    }

    @Test("fewer bytes, more bandwidth, less latency never take longer; the bounds are in order")
    func monotone() {
        var last: NetworkModel.Estimate?
        for ranks in [1, 2, 3, 4, 8, 100, 1024] {
            for bytes in [6, 16, 32].map({ $0 * 1000 }) {
                let slow = NetworkModel(bandwidth: 1e6, latency: 1e-4).estimate(work(bytes: bytes), ranks: ranks)
                let fast = NetworkModel(bandwidth: 2e6, latency: 1e-4).estimate(work(bytes: bytes), ranks: ranks)
                let near = NetworkModel(bandwidth: 1e6, latency: 1e-5).estimate(work(bytes: bytes), ranks: ranks)
                let more = NetworkModel(bandwidth: 1e6, latency: 1e-4).estimate(work(bytes: bytes + 8), ranks: ranks)
                #expect(fast.apart <= slow.apart && near.apart <= slow.apart && slow.apart <= more.apart)
                #expect(
                    slow.overlapped <= slow.apart && slow.apart <= slow.overlapped + min(0.5, slow.exchange) + 1e-12)
            }
            let e = NetworkModel(bandwidth: 1e6, latency: 1e-4).estimate(work(bytes: 6000), ranks: ranks)
            if let last { #expect(last.exchange < e.exchange && last.bytes < e.bytes) }
            last = e
        }
    }

    @Test("limits: many ranks send twice the gradients; no latency and endless bandwidth leave the work")
    func limits() {
        let e = NetworkModel(bandwidth: 1e6, latency: 0).estimate(work(bytes: 4000), ranks: 1 << 20)
        #expect(abs(e.bytes - 8000) < 0.01 && abs(e.exchange - 8e-3) < 1e-7)
        let free = NetworkModel(bandwidth: 1e30, latency: 0).estimate(work(bytes: 4000), ranks: 1024)
        #expect(abs(free.apart - 0.625) < 1e-9 && abs(free.overlapped - 0.625) < 1e-9)
        // Squinch's bytes are 6/16 of bf16's where latency is nothing.
        let (squinch, bf16) = (
            NetworkModel(bandwidth: 1e6, latency: 0).estimate(work(bytes: 6000), ranks: 64).exchange,
            NetworkModel(bandwidth: 1e6, latency: 0).estimate(work(bytes: 16000), ranks: 64).exchange
        )
        #expect(abs(squinch / bf16 - 0.375) < 1e-12)
    }

    @Test("bandwidths as text")
    func text() {
        for (text, bytes) in [
            ("100", 12.5e9), ("0.5", 62.5e6), ("25Gbit", 25e9 / 8), ("400Gbit/s", 50e9), ("800Mbit", 1e8),
            ("12.5GB", 12.5e9), ("12.5 GB/s", 12.5e9), ("3B", 3), ("8bit", 1), ("1kB", 1000), ("2TB", 2e12),
        ] { #expect(NetworkModel.bandwidth(text) == bytes, "\(text)") }
        for text in ["", "fast", "-1", "0", "0GB", "nan", "inf", "1e400", "Gbit", "1 2", "5Gb", "GB/s", "1e-400"] {
            #expect(NetworkModel.bandwidth(text) == nil, "\(text)")
        }
    }

    @Test("codecs are measured on what is there")
    func measured() throws {
        let c = ModelConfiguration()
        let trainer = Trainer(c, EngineContext(threads: 2))
        trainer.initialize()
        for compression in Compression.allCases {
            let codec = trainer.measureCodec(compression)
            for seconds in [codec.encode, codec.add, codec.decode] { #expect(seconds > 0 && seconds < 1e-3) }
        }
    }
}
