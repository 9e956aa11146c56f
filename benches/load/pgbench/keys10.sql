-- The names of one agent's ten secrets.
\set agent random(1, :agents)
SELECT key FROM bench WHERE agent_id = 'agt_' || lpad((:agent)::text, 22, '0') ORDER BY key;
