-- Which rules made a lead's score; null: not yet scored. The other columns came with the lead.
ALTER TABLE lead ADD COLUMN score_rules text;
