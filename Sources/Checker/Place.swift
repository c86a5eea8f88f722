/// The indices of an element of a tensor in C order.
func place(of element: Int, in shape: [Int]) -> [Int] {
    var rest = element
    var place: [Int] = []
    for size in shape.reversed() {
        place.append(rest % size)
        rest /= size
    }
    return place.reversed()
}
