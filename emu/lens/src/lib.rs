//! Everything that looks at the machine: traces, explanations, reports.
