// The operations clamp.*: clause C.

let clampOperations: [Operation] = []
