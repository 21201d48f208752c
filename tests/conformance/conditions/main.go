// Says what Argo Rollouts answers: rows of conditions in, the same rows with `argo` out.
//
// The order is that of its utils/evaluate; the language is its own version of expr. To record anew:
//
//	go run . < ../../data/import/conditions.json > new.json && mv new.json ../../data/import/conditions.json
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/antonmedv/expr"
)

func isNil(value any) bool {
	list, isList := value.([]any)
	object, isObject := value.(map[string]any)
	return value == nil || isList && list == nil || isObject && object == nil
}

func asInt(in any) int64 {
	switch value := in.(type) {
	case float64:
		return int64(value)
	case int:
		return int64(value)
	case string:
		number, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			panic(err)
		}
		return number
	}
	panic("asInt")
}

func asFloat(in any) float64 {
	switch value := in.(type) {
	case float64:
		return value
	case int:
		return float64(value)
	case string:
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			panic(err)
		}
		return number
	}
	panic("asFloat")
}

func holds(result any, condition string) (bool, error) {
	env := map[string]any{
		"result": result, "asInt": asInt, "asFloat": asFloat, "isNaN": math.IsNaN,
		"isInf": func(number float64) bool { return math.IsInf(number, 0) },
		"isNil": func(any) bool { return isNil(result) },
		"default": func(_ any, other any) any {
			if isNil(result) {
				return other
			}
			return result
		},
	}
	program, err := expr.Compile(condition, expr.Env(env))
	if err != nil {
		return false, err
	}
	output, err := expr.Run(program, env)
	if err != nil {
		return false, err
	}
	answer, isBool := output.(bool)
	if !isBool {
		return false, fmt.Errorf("%T", output)
	}
	return answer, nil
}

func number(value any) float64 {
	if text, isText := value.(string); isText {
		found, _ := strconv.ParseFloat(text, 64)
		return found
	}
	return value.(float64)
}

func answer(row map[string]any) string {
	success, _ := row["success"].(string)
	failure, _ := row["failure"].(string)
	result := row["answer"]
	switch path, _ := row["path"].(string); path {
	case "":
		if list, isList := result.([]any); isList {
			numbers := []float64{}
			for _, one := range list {
				numbers = append(numbers, number(one))
			}
			result = numbers
		} else {
			result = number(result)
		}
	case "{$}":
	default:
		result = result.(map[string]any)["x"]
	}
	passes, fails := false, false
	var err error
	if success != "" {
		if passes, err = holds(result, success); err != nil {
			return "Error"
		}
	}
	if failure != "" {
		if fails, err = holds(result, failure); err != nil {
			return "Error"
		}
	}
	switch {
	case success == "" && failure == "":
		return "Successful"
	case failure == "":
		fails = !passes
	case success == "":
		passes = !fails
	}
	if fails {
		return "Failed"
	}
	if !passes {
		return "Inconclusive"
	}
	return "Successful"
}

func main() {
	var rows []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&rows); err != nil {
		panic(err)
	}
	for _, row := range rows {
		row["argo"] = answer(row)
	}
	fmt.Println("[")
	for at, row := range rows {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(row); err != nil {
			panic(err)
		}
		end := ","
		if at == len(rows)-1 {
			end = ""
		}
		fmt.Println(strings.TrimSpace(text.String()) + end)
	}
	fmt.Println("]")
}
