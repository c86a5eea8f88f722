// The operations attention.* and zreg.rows: clauses Z and V.

let attentionOperations: [Operation] = []
