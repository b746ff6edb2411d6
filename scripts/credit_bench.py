"""Every estimator with every loss where the truth is known: ``make credit-bench``."""

from rlcredit.commands.credit_bench import main

if __name__ == "__main__":
    main()
