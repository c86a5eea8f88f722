// The operations layer.*: clause T2, T4.

let layerOperations: [Operation] = []
