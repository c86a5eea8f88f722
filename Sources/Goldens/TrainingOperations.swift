// The operations training.step: clause T.

let trainingOperations: [Operation] = []
