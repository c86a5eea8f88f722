import CHDF5

extension GoldenFile {
    /// The version of libhdf5 at run time: "1.10.8".
    public static var libraryVersion: String {
        var (major, minor, release): (UInt32, UInt32, UInt32) = (0, 0, 0)
        let status = HDF5.locked { H5get_libversion(&major, &minor, &release) }
        guard status >= 0 else { return "unknown" }
        return "\(major).\(minor).\(release)"
    }
}
