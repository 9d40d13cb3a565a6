"""Random commands to our server and to a real one, every reply compared.

words     what stands where a usage line names an argument
grammar   a command's usage line -> random commands that fit it, nearly fit it, or do not
steps     a seed -> what is sent: commands, transactions, scripts
replies   what a server sent, with its types
judge     in which sense two replies must be the same
known     what differs and why
match     two servers, one seed: the first difference, made short

Nothing depends on anything but the seed: the same one sends the same bytes.
"""
