"""Every mutant there is. None may survive; what changes nothing that anybody could see is not in the list."""

from tests.mutants import of_sending, of_the_judgement, of_the_signer

MUTANTS = (*of_the_signer.MUTANTS, *of_sending.MUTANTS, *of_the_judgement.MUTANTS)
