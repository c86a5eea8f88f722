// The operations gumbel.*: clause K.

let gumbelOperations: [Operation] = []
