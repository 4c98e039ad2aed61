# Short names for what is asked for most: `snakemake exp12` makes the summary of exp12 and all it needs. The questions
# are those of tremor/report/contents.py, which a test compares. Some summaries are made by a rule of that name already.


# Steps, boundaries, noise


rule spectrum:
    """To which directions of its input is the model most sensitive?"""
    input:
        graph.tables("spectrum"),
    message:
        "spectrum: {input}"


rule exp12:
    """How far can the input move in the plane of the two most sensitive directions before any bit of the answer changes?"""
    input:
        graph.tables("exp12"),
    message:
        "exp12: {input}"


rule exp13:
    """How far can it move along every singular direction, both ways, and along random ones?"""
    input:
        graph.tables("exp13"),
    message:
        "exp13: {input}"


rule exp15:
    """How large are the input's step and the answer's jump at those boundaries?"""
    input:
        graph.tables("exp15"),
    message:
        "exp15: {input}"


rule regimes:
    """From which step on does the answer change, and from which does it follow the derivative rather than rounding?"""
    input:
        graph.tables("regimes"),
    message:
        "regimes: {input}"


rule noise_floors:
    """How far is every number format, mode and platform from true float64 arithmetic?"""
    input:
        graph.tables("noise_floors"),
    message:
        "noise_floors: {input}"


rule exp14:
    """Along a walk of tiny steps, where does the input change, and where the answer?"""
    input:
        graph.tables("exp14"),
    message:
        "exp14: {input}"


rule exp11:
    """Does it matter which coordinates a direction moves: shifted, turned and random directions?"""
    input:
        graph.tables("exp11"),
    message:
        "exp11: {input}"


rule exp1:
    """How does a nudge travel through the layers, and at which steps of a fine walk does anything change?"""
    input:
        graph.tables("exp1"),
    message:
        "exp1: {input}"


rule exp5:
    """Which block, and which branch of it, stretches a small change; do the blocks' Jacobians multiply to the model's?"""
    input:
        graph.tables("exp5"),
    message:
        "exp5: {input}"


rule exp2:
    """How large is the local gain over a set of prompts, and what do difference quotients make of it?"""
    input:
        graph.tables("exp2"),
    message:
        "exp2: {input}"


rule exp3:
    """Which coordinates does a step still move in which number format, and how far apart are the formats' answers?"""
    input:
        graph.tables("exp3"),
    message:
        "exp3: {input}"


rule lipschitz:
    """What do difference quotients say over many decades, and do nudges change the experts a mixture chooses?"""
    input:
        graph.tables("lipschitz"),
    message:
        "lipschitz: {input}"


rule perturbation:
    """How much noise at all positions changes the next token?"""
    input:
        graph.tables("perturbation"),
    message:
        "perturbation: {input}"


# Ties of two tokens


rule exp6:
    """Where are the two leading tokens tied, and which smallest step flips the choice?"""
    input:
        graph.tables("exp6"),
    message:
        "exp6: {input}"


rule exp7:
    """What does the tie look like in a plane, and is its ragged border random?"""
    input:
        graph.tables("exp7"),
    message:
        "exp7: {input}"


# Two platforms


rule recordings:
    """What did the model hold, stage by stage, while it wrote, on each platform?"""
    input:
        graph.tables("recordings"),
    message:
        "recordings: {input}"


rule exp4:
    """Where do the texts of two platforms part, how far were the states from each other there, and was it a tie?"""
    input:
        graph.tables("exp4"),
    message:
        "exp4: {input}"


rule exp4_angles:
    """Which unembedding vectors does the final state point at, token by token?"""
    input:
        graph.tables("exp4/angles"),
    message:
        "exp4_angles: {input}"


rule exp8:
    """Which stage is the first whose bits differ between two platforms, how does it grow, and does it decide the token?"""
    input:
        graph.tables("exp8"),
    message:
        "exp8: {input}"


rule exp10_tensors:
    """From which product on do two platforms differ?"""
    input:
        graph.tables("exp10/tensors"),
    message:
        "exp10_tensors: {input}"


# Weights


rule exp9:
    """How large are the weights, how are they distributed, how many directions does each matrix have?"""
    input:
        graph.tables("exp9"),
    message:
        "exp9: {input}"


rule exp10:
    """What do a matrix, a weight and an MLP make of smaller and smaller steps?"""
    input:
        graph.tables("exp10"),
    message:
        "exp10: {input}"


rule critical_weights:
    """Which single weights matter, by which score, and what does changing them cost beside random ones?"""
    input:
        graph.tables("critical_weights"),
    message:
        "critical_weights: {input}"


rule cross:
    """Do critical weights move sigma_1, the noise floor and the stability boundary, beside random ones?"""
    input:
        graph.tables("cross"),
    message:
        "cross: {input}"


rule esa_super_weights:
    """Which single weights matter most by fifteen scores, and what does their removal cost?"""
    input:
        graph.tables("esa/super-weights"),
    message:
        "esa_super_weights: {input}"


rule esa_compare_sensitivity:
    """Do the scores agree on which weights matter?"""
    input:
        graph.tables("esa/compare-sensitivity"),
    message:
        "esa_compare_sensitivity: {input}"


rule esa_sensitivity:
    """What does each block, component, norm and head contribute?"""
    input:
        graph.tables("esa/sensitivity"),
    message:
        "esa_sensitivity: {input}"


rule esa_targeted_perturbation:
    """How does the damage grow with the share of the most important weights, beside random ones?"""
    input:
        graph.tables("esa/targeted-perturbation"),
    message:
        "esa_targeted_perturbation: {input}"


rule esa_selective_weight_pruning:
    """What does the model write once chosen weights are replaced?"""
    input:
        graph.tables("esa/selective-weight-pruning"),
    message:
        "esa_selective_weight_pruning: {input}"


rule esa_pruning:
    """How sparse can the model be?"""
    input:
        graph.tables("esa/pruning"),
    message:
        "esa_pruning: {input}"


rule esa_robustness:
    """How much noise do the weights bear, and does it matter where it falls?"""
    input:
        graph.tables("esa/robustness"),
    message:
        "esa_robustness: {input}"


rule esa_adversarial:
    """How small a change of embeddings, tokens or letters spoils the answer, beside random ones?"""
    input:
        graph.tables("esa/adversarial"),
    message:
        "esa_adversarial: {input}"


rule esa_bit_level:
    """Which bits matter, how few flips destroy the model, and how many bits does it need?"""
    input:
        graph.tables("esa/bit-level"),
    message:
        "esa_bit_level: {input}"


rule esa_evaluate:
    """How likely, how well calibrated and what kind of text does the model write?"""
    input:
        graph.tables("esa/evaluate"),
    message:
        "esa_evaluate: {input}"


rule esa_train:
    """What does fine-tuning on a text do to other text?"""
    input:
        graph.tables("esa/train"),
    message:
        "esa_train: {input}"


rule esa_attribution:
    """Can a language model tell which components matter, held to measured ablation?"""
    input:
        graph.tables("esa/attribution"),
    message:
        "esa_attribution: {input}"


# Layers and neurons


rule delta_jacobian:
    """What is the gain of every layer, and how do architectures compare?"""
    input:
        graph.tables("delta/jacobian"),
    message:
        "delta_jacobian: {input}"


rule delta_tracing:
    """Which state brings an answer back (causal tracing)?"""
    input:
        graph.tables("delta/tracing"),
    message:
        "delta_tracing: {input}"


# Documents


rule pdf:
    """How probable is every word of a document, of what rank, and where does the final state point?"""
    input:
        graph.tables("pdf"),
    message:
        "pdf: {input}"


# Groups


rule esa:
    """Every analysis of esa: which weights and components matter, and what faults, noise and pruning cost."""
    input:
        graph.tables("esa"),
    message:
        "esa: {input}"


rule delta:
    """Every study of delta: gain of the layers, neurons of a relation, and causal tracing."""
    input:
        graph.tables("delta"),
    message:
        "delta: {input}"
