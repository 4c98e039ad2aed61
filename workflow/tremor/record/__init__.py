"""The recorder: generate text by token id, and write down what every stage of the model held."""
