// The operations visibility.*: clause V.

let visibilityOperations: [Operation] = []
