"""From a plan to tensors: the trip of the 0.1 in `td.attach(optimizer, td.plan(model, td.decoupled(0.1)))`.

1. It stands in a row of the plan, as the coefficient of a `Decay`.
2. `lowering` asks for each group in which way the decay is carried out there (`routes`): natively, by hook, through the
   loss. `attach` makes a `Handle` of the answer: a plan that is `carried`, saved and loaded
   (`saving`), at work around each step (`hooks`), and copied with its optimizer (`pickles`).
3. By hook: in each step `engine` asks each group (`program`) for the amount, c_t·λ_t, 0.1 times the learning rate here,
   and checks it. All words are in `work`.
4. `passes` carry it out before or after the update, with what a controller says (`runtimes`), row by row (`row_pulls`),
   or owed until half precision can show it (`rounding`); or set norms once it is over (`update_rules`).
5. `kernels` multiply the tensors, in parts or compiled (`compiled`): θ ← θ·(1 − 0.1·lr).

Natively: `program` writes 0.1 under `weight_decay` in the group, and the optimizer's own kernel does the rest. Through
the loss: `handle.penalty` adds it up (`loss`, `penalty`).

What has to survive a checkpoint is packed by `state`, the plan by `ledger`; `checkpoint` loads one by names, and
`copies` says what a copy of an optimizer takes along.

Read in this order: ranks, rounding, bindings, work, unwritten, ledger, state, parts, kernels, sums, runtimes, routes,
    stepping, penalty, loss, update_rules, compiled, row_pulls, lowering, passes, program, engine, copies, readers,
    carried, saving, hooks, pickles, handle, attach, each, checkpoint.
"""
